"""Simulates which runs would have started when: the policy replayed on recorded readings and deliveries. Pure.

The clock is the recorded time. A simulated run ends with the next reading of its database, and has the effect that this
reading shows, since the recording does not contain the run. Without a further reading its effect is unknown. A checkpoint
that starts while the reading says `pinned` counts as blocked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.outcome import Effect, Outcome
from actions.model.request import Request
from actions.policy.alerts import DeliveredAlert, Delivery
from actions.policy.cooldown import ActionHistory, admit_request
from actions.policy.effect import measured_effect
from actions.policy.episodes import Episode, EpisodeRun, decide_delivery, on_enqueued, on_firing, on_resolved
from actions.policy.rules import ConditionWatch, Rule, advance_watch, rule_request
from actions.policy.schedules import Schedule, due_firing, schedule_request
from actions.policy.scheduling import PendingRun, SchedulingLimits, StartedRun, order_pending_runs
from actions.policy.suspension import CONDITION_GONE, RunResult, state_after_reading, state_after_run
from actions.policy.windows import Window, closed_actions
from collectors.metric import Sample
from collectors.registry import publishing_collector


@dataclass(frozen=True, slots=True)
class RecordedReading:
    """What was recorded of one database at one moment (seconds since the epoch). `failed`: collectors that could not read."""

    at: float
    database: str
    samples: tuple[Sample, ...]
    failed: frozenset[str] = frozenset()

    @property
    def is_wal_pinned(self) -> bool | None:
        """Whether a reader pinned the WAL; None when the recording does not show it."""
        states = {
            sample.labels[0] for sample in self.samples if _is_wal_state(sample) and sample.value_at(self.at) == 1
        }
        return None if not states or "unknown" in states else "pinned" in states


@dataclass(frozen=True, slots=True)
class RecordedDelivery:
    """One delivery to the webhook, and when it came (seconds since the epoch)."""

    at: float
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """One line of the simulation. `kind`: runs, waits, ended, suspended, lifted, missed, ignored."""

    at: float
    kind: str
    database: str
    words: str
    rule: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class SimulationPolicy:
    """What is replayed: the rules and schedules of a configuration, its limits and windows (by the recorded time)."""

    rules: Sequence[Rule]
    schedules: Sequence[Schedule]
    limits: SchedulingLimits
    is_long: Callable[[str], bool]
    identity: str | None = None
    databases: frozenset[str] = frozenset()
    windows: Mapping[str, Window] = field(default_factory=dict)


@dataclass(slots=True)
class _SimulatedRun:
    """A run that is pending, active or ended. `held`: why it waited first; `last`: how it ended, for its episode."""

    request: Request
    before: Measurement | None = None
    begun: float | None = None
    blocked: bool = False
    held: str = ""
    last: EpisodeRun = field(default_factory=lambda: EpisodeRun(None))


def simulate_policy(
    plan: SimulationPolicy, moments: Iterable[RecordedReading | RecordedDelivery]
) -> Iterator[SimulatedEvent]:
    """What the agent would have done at these moments, in the order of time."""
    simulation = _Simulation(plan)
    for moment in sorted(moments, key=lambda moment: moment.at):
        yield from simulation.enqueue_due_schedules(moment.at)
        yield from (
            simulation.apply_reading(moment)
            if isinstance(moment, RecordedReading)
            else simulation.apply_delivery(moment)
        )
        yield from simulation.start_ready_runs(moment.at)


class _Simulation:
    """The state that the agent would have kept, and one step of it for each moment."""

    def __init__(self, plan: SimulationPolicy) -> None:
        self._plan = plan
        self._watches: dict[tuple[str, str], ConditionWatch] = {}
        self._pasts: dict[tuple[str, str], ActionHistory] = {}
        self._episodes: dict[tuple[str, str, str, str], Episode] = {}
        self._done_until: dict[tuple[str, str], float] = {}
        self._runs: list[_SimulatedRun] = []
        self._begun: list[StartedRun] = []
        self._latest: dict[str, RecordedReading] = {}

    def enqueue_due_schedules(self, now: float) -> Iterator[SimulatedEvent]:
        """Enqueue the schedules that became due since the last moment."""
        for schedule in self._plan.schedules:
            for database in filter(schedule.covers_database, sorted(self._plan.databases)):
                key = (schedule.name, database)
                due = due_firing(schedule, database, self._done_until.get(key, now), now)
                self._done_until[key] = due.done_until
                if due.missed:
                    yield SimulatedEvent(
                        now, "missed", database, f"{due.missed} times before", schedule.name, schedule.action
                    )
                if due.firing is not None:
                    self._enqueue_request(schedule_request(schedule, database), now)

    def apply_reading(self, reading: RecordedReading) -> Iterator[SimulatedEvent]:
        """End the active runs on the reading's database, lift suspensions, and advance the rules."""
        self._latest[reading.database] = reading
        yield from self._end_runs(reading)
        yield from self._lift_suspensions(reading)
        for rule in (rule for rule in self._plan.rules if rule.covers_database(reading.database)):
            key = (rule.name, reading.database)
            measured = _reading_measurement(rule.condition, reading)
            watch = self._watches.get(key, ConditionWatch())
            self._watches[key], requested = advance_watch(rule, watch, measured, reading.at)
            if requested:
                self._enqueue_request(rule_request(rule, reading.database, "threshold"), reading.at)

    def apply_delivery(self, recorded: RecordedDelivery) -> Iterator[SimulatedEvent]:
        """Enqueue or cancel what each alert of the delivery decides."""
        for alert in recorded.delivery.alerts:
            if alert.status == "resolved":
                yield from self._apply_resolved(alert, recorded.at)
            else:
                yield from self._apply_firing(alert, recorded.at)

    def start_ready_runs(self, now: float) -> Iterator[SimulatedEvent]:
        """Start every pending run that may start now."""
        unstarted = {number: run for number, run in enumerate(self._runs) if run.begun is None}
        pending = [_pending_run(number, run.request, self._plan.is_long) for number, run in unstarted.items()]
        limits = replace(self._plan.limits, closed=closed_actions(self._plan.windows, now))
        for candidate, wait_reason in order_pending_runs(pending, self._begun, limits, now):
            run = unstarted[candidate.id]
            if wait_reason is None:
                yield self._start_run(run, now)
            elif not run.held:  # reported once for each run, while it goes on to wait
                run.held = wait_reason.why
                yield self._run_event(run, now, "waits", wait_reason.why)

    def _start_run(self, run: _SimulatedRun, now: float) -> SimulatedEvent:
        request, reading = run.request, self._latest.get(run.request.database)
        run.begun = now
        run.blocked = request.action == "checkpoint" and reading is not None and bool(reading.is_wal_pinned)
        long = self._plan.is_long(request.action)
        self._begun.append(StartedRun(request.database, request.trigger, request.rule, now, long, runs=False))
        if reading is None or request.condition is None:
            self._end_run(run, now, Outcome.DONE, None)
        else:
            run.before = _reading_measurement(request.condition, reading)
            if request.condition.judge_measurement(run.before) is ConditionVerdict.CLEAR:
                self._end_run(run, now, Outcome.NOTHING_TO_DO, None, CONDITION_GONE)
                return self._run_event(run, now, "ended", "nothing to do: no longer wrong")
        return self._run_event(run, now, "runs", f"{request.action}, {_start_reason(request, run.before)}")

    def _end_runs(self, reading: RecordedReading) -> Iterator[SimulatedEvent]:
        for run in self._runs:
            condition = run.request.condition
            if run.request.database != reading.database or run.begun is None or run.last.ended_at is not None:
                continue
            assert condition is not None  # noqa: S101 a run without a condition has ended at its start
            assert run.before is not None  # noqa: S101 so has a run without a reading before it
            after = _reading_measurement(condition, reading)
            effect = measured_effect(condition, run.before, after, blocked=run.blocked)
            before = self._action_history(run.request).suspension
            self._end_run(run, reading.at, Outcome.BLOCKED if run.blocked else Outcome.DONE, effect, after=after.value)
            yield self._run_event(
                run, reading.at, "ended", f"effect {effect} ({_shown_value(run.before)} -> {_shown_value(after)})"
            )
            if self._action_history(run.request).suspension.is_suspended and not before.is_suspended:
                yield self._run_event(run, reading.at, "suspended", "two runs in a row did not help")

    def _lift_suspensions(self, reading: RecordedReading) -> Iterator[SimulatedEvent]:
        for (database, action), past in self._pasts.items():
            before = past.suspension
            if database != reading.database or before.condition is None:
                continue
            measured = _reading_measurement(before.condition, reading)
            after = state_after_reading(before, measured, reading.at, held_back=reading.is_wal_pinned)
            self._pasts[database, action] = replace(past, suspension=after)
            if before.is_suspended and not after.is_suspended:
                yield SimulatedEvent(reading.at, "lifted", database, "may be tried again", before.rule, action)

    def _apply_firing(self, alert: DeliveredAlert, now: float) -> Iterator[SimulatedEvent]:
        database = alert.labels.get("database", "")
        if self._plan.identity is not None and alert.labels.get("instance") != self._plan.identity:
            yield SimulatedEvent(now, "ignored", database, f"its instance is not {self._plan.identity} (identity)")
            return
        if database not in self._plan.databases:
            yield SimulatedEvent(now, "ignored", database, "its database is not configured here")
            return
        rules = [
            rule for rule in self._plan.rules if rule.covers_database(database) and rule.is_started_by(alert.labels)
        ]
        if not rules:
            yield SimulatedEvent(now, "ignored", database, f"no rule has a matcher for it: {_alert_name(alert)}")
        for rule in rules:
            yield from self._apply_firing_to_rule(rule, database, alert, now)

    def _apply_firing_to_rule(
        self, rule: Rule, database: str, alert: DeliveredAlert, now: float
    ) -> Iterator[SimulatedEvent]:
        key = (alert.receiver, alert.fingerprint, rule.name, database)
        episode = on_firing(self._episodes.get(key), now)
        last = None if episode.run_id is None else self._runs[episode.run_id].last
        decision: str = decide_delivery(episode, last, rule.cooldown, now)
        if decision == "enqueue":
            name = f"{alert.fingerprint}/{episode.number}"
            decision, number = self._enqueue_request(rule_request(rule, database, "alert", name), now)
            episode = episode if number is None else on_enqueued(episode, last, number)
        self._episodes[key] = episode
        if decision != "accepted":
            yield SimulatedEvent(now, "ignored", database, f"{decision}: {_alert_name(alert)}", rule.name, rule.action)

    def _apply_resolved(self, alert: DeliveredAlert, now: float) -> Iterator[SimulatedEvent]:
        for key, episode in self._episodes.items():
            if key[:2] == (alert.receiver, alert.fingerprint) and episode.state == "firing":
                self._episodes[key] = on_resolved(episode, now)
                yield from self._cancel_pending_run(episode.run_id, now)

    def _cancel_pending_run(self, number: int | None, now: float) -> Iterator[SimulatedEvent]:
        if number is None or any(
            episode.run_id == number and episode.state == "firing" for episode in self._episodes.values()
        ):
            return
        run = self._runs[number]
        if run.begun is None and run.request.trigger == "alert":
            run.begun = now
            self._end_run(run, now, Outcome.CANCELLED, None)
            yield self._run_event(run, now, "ended", "cancelled: its alert resolved before it began")

    def _enqueue_request(self, request: Request, now: float) -> tuple[str, int | None]:
        past = self._action_history(request)
        decision = admit_request(past, request.cooldown, now)
        if decision != "accepted":
            return decision, past.unfinished_run
        self._runs.append(_SimulatedRun(request))
        number = len(self._runs) - 1
        self._pasts[request.database, request.action] = replace(past, unfinished_run=number)
        return decision, number

    def _end_run(
        self,
        run: _SimulatedRun,
        now: float,
        outcome: Outcome,
        effect: Effect | None,
        reason: str = "",
        after: float | None = None,
    ) -> None:
        run.last = EpisodeRun(now, outcome, effect)
        past, before = self._action_history(run.request), None if run.before is None else run.before.value
        result = RunResult(outcome, effect, run.request.rule, run.request.condition, before, after, reason, "simulated")
        suspension = state_after_run(past.suspension, result, now)
        self._pasts[run.request.database, run.request.action] = ActionHistory(now, None, suspension)

    def _action_history(self, request: Request) -> ActionHistory:
        return self._pasts.get((request.database, request.action), ActionHistory())

    def _run_event(self, run: _SimulatedRun, now: float, kind: str, words: str) -> SimulatedEvent:
        return SimulatedEvent(now, kind, run.request.database, words, run.request.rule, run.request.action)


def _reading_measurement(condition: Condition, reading: RecordedReading) -> Measurement:
    return Measurement(
        condition.value_from(reading.samples, reading.at), publishing_collector(condition.metric) not in reading.failed
    )


def _pending_run(number: int, request: Request, is_long: Callable[[str], bool]) -> PendingRun:
    long = is_long(request.action)
    return PendingRun(number, request.database, request.action, request.trigger, request.rule, request.priority, long)


def _is_wal_state(sample: Sample) -> bool:
    return sample.metric.name == "sqlite_wal_state"


def _start_reason(request: Request, before: Measurement | None) -> str:
    if request.condition is None:
        return f"by the schedule {request.rule}"
    alert = f", alert {request.episode}" if request.episode else ""
    return (
        f"by the {request.trigger} of rule {request.rule}: {request.condition.metric} is {_shown_value(before)}{alert}"
    )


def _shown_value(measured: Measurement | None) -> str:
    if measured is None or not measured.read:
        return "not recorded"
    return "absent" if measured.value is None else f"{measured.value:.12g}"


def _alert_name(alert: DeliveredAlert) -> str:
    labels: Mapping[str, str] = alert.labels
    return labels.get("alertname", "an alert without a name")
