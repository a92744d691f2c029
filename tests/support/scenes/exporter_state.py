"""The state of an agent at one moment, made by hand for the tests of the metrics page."""

from pathlib import Path

from actions.model.condition import Condition
from actions.policy.rules import Rule
from actions.store.totals import DURATION_BUCKETS, ActionTotals, DurationHistogram
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.metric import Metric, Sample, Since
from collectors.target import Target
from exporter.config.settings import ActingSettings, Config, DatabaseSpec
from exporter.exposition.latest import LatestSnapshots
from exporter.exposition.self_metrics import ExporterState

NOW = 1_800_000_000.0
SIZE = Metric("sqlite_database_size_bytes", "Size of the database file, from stat.")
TASKS = Metric("sqlite_queue_tasks", "Tasks, counted.", ("queue", "state"), fold="sum")
AGE = Metric("sqlite_backup_age_seconds", "Age of the newest verified backup.")
ENQUEUED = Metric("sqlite_queue_enqueued_total", "Tasks ever enqueued.", kind="counter")
METRICS = (SIZE, TASKS, AGE, ENQUEUED)


def target(name: str = "jobs") -> Target:
    """Return a watched database that is never opened."""
    return Target(name=name, path=Path(f"/var/lib/app/{name}.db"))


def snapshot(
    name: str = "jobs", at: float = NOW - 5, samples: tuple[Sample, ...] = (), failed: dict[str, str] | None = None
) -> Snapshot:
    """Return a snapshot; `failed` collectors have no samples but a reason."""
    results = {"storage": CollectorResult(True, 0.001)}
    results |= {collector: CollectorResult(False, 0.002, reason) for collector, reason in (failed or {}).items()}
    return Snapshot(target(name), at, up=True, state="readable", samples=samples, collectors=results)


def readings() -> tuple[Sample, ...]:
    """Return samples of each kind: a number, labels that need escaping, an age, a counter."""
    return (
        SIZE(8192),
        TASKS(3, 'ma"il\\x\n', "waiting"),
        TASKS(1, "default", "dead"),
        AGE(Since(NOW - 3600)),
        ENQUEUED(41),
    )


def config(**changes: object) -> Config:
    """Return the configuration of an agent with one rule for every database."""
    rule = Rule("wal-backlog", Condition("sqlite_wal_backlog_bytes", above=1), "checkpoint", hold=0)
    fields: dict[str, object] = {
        "source": Path("/etc/queuekeeper.yaml"),
        "databases": (DatabaseSpec("/var/lib/app/jobs.db", "jobs"),),
        "acting": ActingSettings(enabled=True),
        "rules": (rule,),
    }
    return Config(**{**fields, **changes})  # type: ignore[arg-type]


def board(*snapshots: Snapshot, names: tuple[str, ...] = ("jobs",)) -> LatestSnapshots:
    """Return the newest snapshots of the databases `names`."""
    made = LatestSnapshots()
    made.set_targets(target(name) for name in names)
    for snapshot in snapshots:
        made.store_snapshot(snapshot)
    return made


def totals() -> ActionTotals:
    """Return totals with one run of each kind."""
    return ActionTotals(
        runs={("jobs", "checkpoint", "done"): 2, ("jobs", "backup", "refused"): 1},
        triggers={("checkpoint", "alert"): 2},
        durations={"checkpoint": DurationHistogram((0, 1, 1, *[0] * (len(DURATION_BUCKETS) - 2)), 0.25)},
        effects={("jobs", "wal-backlog", "fixed"): 2},
        amounts={("jobs", "reclaimed_bytes"): 4096.0, ("jobs", "requeued_tasks"): 7.0},
        started={("jobs", "backup"): NOW - 60},
        last_success={("jobs", "checkpoint"): NOW - 100},
        last_failure={("jobs", "backup"): NOW - 200},
        checks={("jobs", "full", "live"): (False, NOW - 500), ("jobs", "quick", "live"): (True, NOW - 50)},
        pending=1,
    )


def facts(now: float, shown: LatestSnapshots, **changes: object) -> ExporterState:
    """Return the state of an exporter, with fixed versions."""
    fields: dict[str, object] = {
        "version": "0.0.0",
        "revision": "abcdef0",
        "python_version": "3.11.0",
        "sqlite_version": "3.51.3",
        "config": config(),
        "view": shown.view_at(now, 15.0),
        "totals": totals(),
        "webhook_requests": {202: 3},
        "webhook_alerts": {("accepted", "jobs"): 1, ("rejected", ""): 2, ("resolved", "jobs"): 9},
        "reload_time": NOW - 1000,
    }
    return ExporterState(**{**fields, **changes})  # type: ignore[arg-type]
