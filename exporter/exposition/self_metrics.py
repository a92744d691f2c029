"""The metrics of the exporter itself and of its actions: declarations, and samples from pure inputs.

Counters start at 0 for every value that can be expected, else `increase()` misses the first event
(Prometheus' "Instrumentation", avoid missing metrics).
"""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import apsw

from actions.policy.rules import Rule
from actions.policy.schedules import Schedule
from actions.store.totals import ActionTotals
from collectors.access.snapshot import Snapshot
from collectors.metric import Metric, Sample
from exporter.config.settings import Config
from exporter.exposition.latest import SnapshotView
from exporter.exposition.line_cache import PlacedSample

UP = Metric("sqlite_up", "1 when the last poll could read the database, from our own poll.", fold="min")
BUILD_INFO = Metric(
    "queuekeeper_build_info",
    "1; the versions of this exporter. sqlite_version is its own library's.",
    ("version", "revision", "python_version", "sqlite_version"),
    of_database=False,
)
DATABASES = Metric(
    "queuekeeper_databases",
    "Watched databases by state: found (not polled yet), readable, stale (reading too old), or why it is not read.",
    ("state",),
    of_database=False,
    fold="sum",
)
COLLECTOR_SUCCESS = Metric(
    "queuekeeper_collector_success",
    "1 when the collector could read the database at the last poll.",
    ("collector",),
    fold="min",
)
COLLECTOR_DURATION = Metric(
    "queuekeeper_collector_duration_seconds", "How long the collector took at the last poll.", ("collector",)
)
COLLECTOR_ERRORS = Metric(
    "queuekeeper_collector_errors_total",
    "Failed readings of all databases since the start.",
    ("collector", "reason"),
    "counter",
    of_database=False,
    fold="sum",
)
POLL_LAST_SUCCESS = Metric(
    "queuekeeper_poll_last_success_timestamp_seconds",
    "When the database was last read, or its files were found unchanged since, by our clock.",
)
POLL_OVERRUNS = Metric(
    "queuekeeper_poll_overruns_total", "Polls that were due while the one before had not ended.", kind="counter"
)
LABELS_DROPPED = Metric(
    "queuekeeper_label_values_dropped_total",
    "Distinct queue names that had to share the label `other`, since the start.",
    kind="counter",
    fold="sum",
)
RELOAD_SUCCESS = Metric(
    "queuekeeper_config_last_reload_successful", "1 when the configuration was accepted the last time it was read.",
    of_database=False,
)  # fmt: skip
RELOAD_TIME = Metric(
    "queuekeeper_config_last_reload_success_timestamp_seconds", "When a configuration was last accepted.",
    of_database=False,
)  # fmt: skip
ACTIONS_ENABLED = Metric("queuekeeper_actions_enabled", "1 when the configuration enables acting.", of_database=False)
PAUSED = Metric("queuekeeper_paused", "1 while all actions are paused.", of_database=False)
PENDING = Metric("queuekeeper_actions_pending", "Pending runs, from the state store.", of_database=False)
STATE_WRITABLE = Metric("queuekeeper_state_writable", "1 when the state store can be written.", of_database=False)
RUNS = Metric(
    "queuekeeper_action_runs_total",
    "Ended runs by outcome, from the state store: survives restarts, counts the command line's runs too.",
    ("action", "outcome"),
    "counter",
    "sum",
)
TRIGGERS = Metric(
    "queuekeeper_action_triggers_total", "Runs requested, by trigger.", ("action", "trigger"), "counter",
    of_database=False, fold="sum",
)  # fmt: skip
DURATION = Metric(
    "queuekeeper_action_duration_seconds", "How long ended runs took, from the state store (a histogram).", ("action",),
    of_database=False,
)  # fmt: skip
STARTED = Metric(
    "queuekeeper_action_started_timestamp_seconds", "When the running action began; absent otherwise.", ("action",)
)
LAST_SUCCESS = Metric(
    "queuekeeper_action_last_success_timestamp_seconds", "When the action last succeeded.", ("action",)
)
LAST_FAILURE = Metric("queuekeeper_action_last_failure_timestamp_seconds", "When the action last failed.", ("action",))
RECLAIMED = Metric(
    "queuekeeper_action_reclaimed_bytes_total", "Bytes that actions returned to the disk.", kind="counter", fold="sum"
)
REQUEUED = Metric(
    "queuekeeper_action_requeued_tasks_total", "Tasks with a stale lease that were requeued.",
    kind="counter", fold="sum",
)  # fmt: skip
PURGED = Metric(
    "queuekeeper_action_purged_tasks_total", "Finished tasks that were deleted.", kind="counter", fold="sum"
)
DRILL_SUCCESS = Metric(
    "sqlite_restore_drill_last_success_timestamp_seconds",
    "When the newest backup was last restored and found healthy, from the state store.",
)
DRILL_DURATION = Metric(
    "sqlite_restore_drill_duration_seconds",
    "How long the newest successful drill took to restore, from the state store.",
)
INTEGRITY_OK = Metric(
    "sqlite_integrity_ok",
    "1 when no integrity check of this kind found anything wrong, from the state store. Only a full check of the whole target "
    "clears a failure.",
    ("check", "target"),
    fold="min",
)
INTEGRITY_TIME = Metric(
    "sqlite_integrity_last_check_timestamp_seconds",
    "When it was last checked, from the state store.",
    ("check", "target"),
)
EFFECT = Metric(
    "queuekeeper_remediation_effect_total",
    "Automatic runs by their effect on the reading that triggered them.",
    ("rule", "effect"),
    "counter",
    "sum",
)
SUSPENDED = Metric(
    "queuekeeper_remediation_suspended",
    "1 while automatic runs of the action are stopped because two in a row did not help, from the state store.",
    ("action",),
)
MISSED = Metric(
    "queuekeeper_schedule_missed_total",
    "Times of a schedule at which no run was requested: the agent did not run, or the action was suspended.",
    ("schedule",),
    "counter",
    "sum",
)
WEBHOOK_REQUESTS = Metric(
    "queuekeeper_webhook_requests_total", "Answers to Alertmanager since the start, by HTTP status.", ("code",),
    "counter", of_database=False, fold="sum",
)  # fmt: skip
WEBHOOK_ALERTS = Metric(
    "queuekeeper_webhook_alerts_total",
    "Alerts received since the start by decision; database is empty unless it is a configured one.",
    ("decision",),
    "counter",
    "sum",
)
WEBHOOK_TRUNCATED = Metric(
    "queuekeeper_webhook_truncated_alerts_total",
    "Alerts that the sender left out of its deliveries since the start (max_alerts of Alertmanager's webhook_configs).",
    kind="counter",
    of_database=False,
    fold="sum",
)

METRICS = (
    UP, BUILD_INFO, DATABASES, COLLECTOR_SUCCESS, COLLECTOR_DURATION, COLLECTOR_ERRORS, POLL_LAST_SUCCESS,
    POLL_OVERRUNS, LABELS_DROPPED, RELOAD_SUCCESS, RELOAD_TIME, ACTIONS_ENABLED, PAUSED, PENDING, STATE_WRITABLE, RUNS,
    TRIGGERS, DURATION, STARTED, LAST_SUCCESS, LAST_FAILURE, RECLAIMED, REQUEUED, PURGED, DRILL_SUCCESS,
    DRILL_DURATION, INTEGRITY_OK, INTEGRITY_TIME, EFFECT, SUSPENDED, MISSED, WEBHOOK_REQUESTS, WEBHOOK_ALERTS,
    WEBHOOK_TRUNCATED,
)  # fmt: skip
HISTOGRAMS = frozenset({DURATION.name})
AMOUNTS = {"reclaimed_bytes": RECLAIMED, "requeued_tasks": REQUEUED, "purged_tasks": PURGED}
DECISIONS = ("accepted", "duplicate", "cooldown", "no_match", "disabled", "rejected")
# The status codes of the webhook; each exists from the start, so that its first answer is an increase.
WEBHOOK_CODES = (202, 400, 401, 403, 408, 413, 429, 503)
EFFECTS = ("fixed", "no_effect", "worse", "blocked", "unknown")


@dataclass(frozen=True, slots=True)
class ExporterState:
    """The inputs of the exporter's own metrics.

    `webhook_alerts` is by (decision, database), `reload_*` is of the last reload.
    """

    version: str
    config: Config
    view: SnapshotView
    totals: ActionTotals = field(default_factory=ActionTotals)
    revision: str = ""
    python_version: str = platform.python_version()
    sqlite_version: str = apsw.sqlite_lib_version()
    webhook_requests: Mapping[int, int] = field(default_factory=dict)
    webhook_alerts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    webhook_truncated: int = 0
    paused: bool = False
    state_writable: bool = True
    reload_successful: bool = True
    reload_time: float | None = None


def process_samples(state: ExporterState) -> Iterator[PlacedSample]:
    """Yield the samples of the process, which may differ at every scrape."""
    yield from (("", sample) for sample in _agent_samples(state))
    yield from _webhook_samples(state)


def poll_samples(snapshot: Snapshot | None, *, stale: bool) -> Iterator[Sample]:
    """Yield the samples of one database's last poll. `stale` means that its reading is too old to be shown."""
    if stale:
        yield UP(0)  # the poll that should have replaced the reading did not end: the database cannot be read now
    if snapshot is not None:
        yield UP(snapshot.up)
        for collector, result in snapshot.collectors.items():
            yield COLLECTOR_SUCCESS(result.success, collector)
            yield COLLECTOR_DURATION(result.duration, collector)


def _overrun_counts(view: SnapshotView) -> Mapping[str, float]:
    return {name: view.overruns.get(name, 0) for name in view.names}


def _labels_dropped(view: SnapshotView) -> Mapping[str, float]:
    return {name: view.labels_dropped.get(name, 0) for name in view.names}


def _last_success(view: SnapshotView) -> Mapping[str, float]:
    return {name: view.last_success[name] for name in view.names if name in view.last_success}


# Families with one number for each database, which may change at every poll of an unchanged file.
COLUMNS = {
    POLL_OVERRUNS.name: _overrun_counts,
    LABELS_DROPPED.name: _labels_dropped,
    POLL_LAST_SUCCESS.name: _last_success,
}


def startable_actions(config: Config, databases: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the (database, action) pairs that rules and schedules of the configuration can start."""
    if not config.acting.enabled:
        return ()
    starters: tuple[Rule | Schedule, ...] = (*config.rules, *config.schedules)
    return tuple(
        sorted({(name, starter.action) for starter in starters for name in databases if starter.covers_database(name)})
    )


def _agent_samples(state: ExporterState) -> Iterator[Sample]:
    view = state.view
    yield BUILD_INFO(1, state.version, state.revision, state.python_version, state.sqlite_version)
    counts = Counter({"found": 0, "readable": 0, "stale": 0})
    counts.update(view.database_state(target.name) for target in view.targets)
    yield from (DATABASES(count, word) for word, count in counts.items())
    yield from (COLLECTOR_ERRORS(count, *key) for key, count in view.errors.items())
    yield RELOAD_SUCCESS(state.reload_successful)
    if state.reload_time is not None:
        yield RELOAD_TIME(state.reload_time)
    yield ACTIONS_ENABLED(state.config.acting.enabled)
    yield PAUSED(state.paused)
    yield STATE_WRITABLE(state.state_writable)
    yield PENDING(state.totals.pending)
    yield from (TRIGGERS(count, *key) for key, count in state.totals.triggers.items())


def history_samples(state: ExporterState) -> Iterator[PlacedSample]:
    """Yield the samples of the state store except the histogram.

    They are the same while totals, configuration and databases are.
    """
    totals, databases = state.totals, tuple(target.name for target in state.view.targets)
    expected = {(d, a, o): 0 for d, a in startable_actions(state.config, databases) for o in ("done", "failed")}
    yield from ((d, RUNS(n, a, o)) for (d, a, o), n in {**expected, **totals.runs}.items())
    yield from _effect_samples(state, databases)
    yield from _suspension_samples(state, databases)
    yield from _schedule_samples(state, databases)
    for metric, times in (
        (STARTED, totals.started),
        (LAST_SUCCESS, totals.last_success),
        (LAST_FAILURE, totals.last_failure),
    ):
        yield from ((database, metric(at, action)) for (database, action), at in times.items())
    for database, (at, seconds) in totals.drills.items():
        yield database, DRILL_SUCCESS(at)
        yield database, DRILL_DURATION(seconds)
    for (database, check, checked), (ok, at) in totals.checks.items():
        yield database, INTEGRITY_OK(ok, check, checked)
        yield database, INTEGRITY_TIME(at, check, checked)
    known = {d for d, _ in totals.amounts} | {d for d, _, _ in totals.runs} | set(databases)
    for word, metric in AMOUNTS.items():
        yield from ((database, metric(totals.amounts.get((database, word), 0))) for database in sorted(known))


def _effect_samples(state: ExporterState, databases: tuple[str, ...]) -> Iterator[PlacedSample]:
    rules = state.config.rules if state.config.acting.enabled else ()
    pairs = [(d, rule.name) for rule in rules for d in databases if rule.covers_database(d)]
    expected = {(d, rule, effect): 0 for d, rule in pairs for effect in EFFECTS[:2]}
    yield from ((d, EFFECT(n, rule, effect)) for (d, rule, effect), n in {**expected, **state.totals.effects}.items())


def _suspension_samples(state: ExporterState, databases: tuple[str, ...]) -> Iterator[PlacedSample]:
    suspended = {
        key for key, suspension in state.totals.suspensions.items() if suspension.is_suspended and key[0] in databases
    }
    for database, action in sorted({*startable_actions(state.config, databases), *suspended}):
        yield database, SUSPENDED((database, action) in suspended, action)


def _schedule_samples(state: ExporterState, databases: tuple[str, ...]) -> Iterator[PlacedSample]:
    schedules = state.config.schedules if state.config.acting.enabled else ()
    for schedule in schedules:
        yield from (
            (d, MISSED(state.totals.missed.get((d, schedule.name), 0), schedule.name))
            for d in databases
            if schedule.covers_database(d)
        )


def _webhook_samples(state: ExporterState) -> Iterator[PlacedSample]:
    codes = {**dict.fromkeys(WEBHOOK_CODES, 0), **state.webhook_requests}
    yield from (("", WEBHOOK_REQUESTS(count, str(code))) for code, count in codes.items())
    decisions = {**{(decision, ""): 0 for decision in DECISIONS}, **state.webhook_alerts}
    yield from (
        (database, WEBHOOK_ALERTS(count, decision))
        for (decision, database), count in decisions.items()
        if decision in DECISIONS
    )
    yield "", WEBHOOK_TRUNCATED(state.webhook_truncated)
