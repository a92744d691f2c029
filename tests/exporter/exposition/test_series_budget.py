"""One database adds at most 120 series to the page beside those with a queue label, however bad its state is."""

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
    """All label values at once; constant labels (sqlite_info) have one value each."""
    rows: list[tuple[str, ...]] = [()]
    for label in metric.labels:
        rows = [(*row, value) for row in rows for value in MOST.get(label, ("x",))]
    return [metric(1, *row) for row in rows]


def worst() -> Snapshot:
    metrics = [m for one in COLLECTORS for m in one.METRICS if "queue" not in m.labels]
    samples = tuple(sample for metric in metrics for sample in every_sample(metric))
    results = {one.NAME: CollectorResult(False, 1.0, "busy") for one in COLLECTORS}
    made = snapshot("jobs", NOW, samples)
    return Snapshot(made.target, NOW, up=True, state="readable", samples=samples, collectors=results)


def series(page: str) -> list[str]:
    return [line for line in page.splitlines() if 'database="jobs"' in line and 'queue="' not in line]


def test_a_database_that_is_observed_stays_in_the_budget() -> None:
    board = LatestSnapshots()
    board.set_targets([target("jobs")])
    board.store_snapshot(worst())
    metrics = [metric for one in COLLECTORS for metric in one.METRICS]
    page = Exposition(metrics, lambda at: facts(at, board, totals=ActionTotals(), config=config(rules=())), lambda: NOW)
    found = series(page.render("", "").body.decode())
    assert len(found) > 60, "the worst case is not there"
    assert len(found) <= BUDGET, len(found)


def test_with_every_action_and_two_rules_for_each_of_the_usual_ones_it_still_does() -> None:
    """What acting adds belongs to what the configuration can start: twelve action words exist, three act by themselves."""
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
    metrics = [metric for one in COLLECTORS for metric in one.METRICS]
    shown = config(rules=rules)
    page = Exposition(metrics, lambda at: facts(at, board, totals=totals, config=shown, webhook_alerts={}), lambda: NOW)
    assert len(series(page.render("", "").body.decode())) <= BUDGET
