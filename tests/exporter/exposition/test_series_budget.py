"""One database adds at most 120 series to the page, not counting those with a queue label, in any state."""

from actions.model.condition import Condition
from actions.model.outcome import Outcome
from actions.policy.rules import Rule
from actions.runner.catalogue import ACTION_SPECS
from actions.store.totals import ActionTotals
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.metric import Metric, Sample
from collectors.registry import COLLECTORS
from collectors.wal import MAX_COMMANDS
from collectors.wal_state import STATES as WAL_STATES
from exporter.exposition.latest import LatestSnapshots
from exporter.exposition.page import Exposition
from tests.support.scenes.exporter_state import NOW, config, facts, snapshot, target

BUDGET = 120
# How many values each label of the collectors' metrics can have at once.
MOST = {
    "state": tuple(WAL_STATES),
    "role": ("database", "backups", "temp", "state"),
    "command": tuple(f"command{number}" for number in range(MAX_COMMANDS)),
    "check": ("quick", "full"),
    "target": ("live", "backup"),
}


def every_sample(metric: Metric) -> list[Sample]:
    """Yield a sample for each label value; constant labels (sqlite_info) have one value each."""
    rows: list[tuple[str, ...]] = [()]
    for label in metric.labels:
        rows = [(*row, value) for row in rows for value in MOST.get(label, ("x",))]
    return [metric(1, *row) for row in rows]


def worst() -> Snapshot:
    metrics = [m for collector in COLLECTORS for m in collector.METRICS if "queue" not in m.labels]
    samples = tuple(sample for metric in metrics for sample in every_sample(metric))
    results = {collector.NAME: CollectorResult(False, 1.0, "busy") for collector in COLLECTORS}
    made = snapshot("jobs", NOW, samples)
    return Snapshot(made.target, NOW, up=True, state="readable", samples=samples, collectors=results)


def series(page: str) -> list[str]:
    return [line for line in page.splitlines() if 'database="jobs"' in line and 'queue="' not in line]


def test_a_database_that_is_observed_stays_in_the_budget() -> None:
    board = LatestSnapshots()
    board.set_targets([target("jobs")])
    board.store_snapshot(worst())
    metrics = [metric for collector in COLLECTORS for metric in collector.METRICS]
    page = Exposition(metrics, lambda at: facts(at, board, totals=ActionTotals(), config=config(rules=())), lambda: NOW)
    counted = series(page.render("", "").body.decode())
    assert len(counted) > 60, "the worst case is not there"
    assert len(counted) <= BUDGET, len(counted)


def test_with_every_action_and_two_rules_for_each_of_the_usual_ones_it_still_does() -> None:
    """Only actions that the configuration can start add series: of twelve actions three start automatically."""
    usual = ("checkpoint", "requeue", "backup")
    assert set(usual) < set(ACTION_SPECS)
    rules = tuple(Rule(f"rule-{word}", Condition("sqlite_wal_backlog_bytes", above=1), word) for word in usual)
    board = LatestSnapshots()
    board.set_targets([target("jobs")])
    board.store_snapshot(worst())
    totals = ActionTotals(
        runs={("jobs", word, str(outcome)): 1 for word in usual for outcome in (Outcome.DONE, Outcome.FAILED)},
        last_success={("jobs", word): NOW for word in usual},
        last_failure={("jobs", word): NOW for word in usual},
        checks={("jobs", check, place): (True, NOW) for check in MOST["check"] for place in MOST["target"]},
    )
    metrics = [metric for collector in COLLECTORS for metric in collector.METRICS]
    shown = config(rules=rules)
    page = Exposition(metrics, lambda at: facts(at, board, totals=totals, config=shown, webhook_alerts={}), lambda: NOW)
    assert len(series(page.render("", "").body.decode())) <= BUDGET
