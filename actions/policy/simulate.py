"""What would have run when: the policy replayed on recorded readings and deliveries. Pure; time is what was recorded.

A run is taken to end with the next reading of its database, and to have had the effect that this reading shows: what was
recorded did not know of it. Without a further reading its effect is unknown. A checkpoint that begins while the reading
says `pinned` counts as blocked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from actions.model.condition import Condition, Measured, Verdict
from actions.model.outcome import Effect, Outcome
from actions.model.request import Request
from actions.policy.alerts import Alert, Delivery
from actions.policy.cooldown import Past, decide
from actions.policy.effect import effect
from actions.policy.episodes import Episode, LastRun, asked, fires, hear, resolves
from actions.policy.rules import Rule, Watch, request_of, step
from actions.policy.schedules import Schedule, due
from actions.policy.schedules import request_of as request_of_schedule
from actions.policy.scheduling import Begun, Bounds, Waiting, order
from actions.policy.suspension import GONE, Ran, after_reading, after_run
from actions.policy.windows import Window, closed
from collectors.metric import Sample
from collectors.registry import publisher


@dataclass(frozen=True, slots=True)
class Reading:
    """What was recorded of one database at one moment (seconds since the epoch). `failed`: collectors that could not read."""

    at: float
    database: str
    samples: tuple[Sample, ...]
    failed: frozenset[str] = frozenset()

    @property
    def held_back(self) -> bool | None:
        """Whether a reader held the WAL back; None when it does not say."""
        states = {sample.labels[0] for sample in self.samples if _is_state(sample) and sample.at(self.at) == 1}
        return None if not states or "unknown" in states else "pinned" in states


@dataclass(frozen=True, slots=True)
class Told:
    """One delivery to the webhook, and when it came."""

    at: float
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the story. `kind`: runs, waits, ended, suspended, lifted, missed, ignored."""

    at: float
    kind: str
    database: str
    words: str
    rule: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is replayed: the rules and schedules of a configuration, its bounds and windows (those by the recorded time)."""

    rules: Sequence[Rule]
    schedules: Sequence[Schedule]
    bounds: Bounds
    is_long: Callable[[str], bool]
    identity: str | None = None
    databases: frozenset[str] = frozenset()
    windows: Mapping[str, Window] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """A run that waits, works or has ended."""

    request: Request
    before: Measured | None = None
    begun: float | None = None
    blocked: bool = False
    held: str = ""
    last: LastRun = field(default_factory=lambda: LastRun(None))


def simulate(plan: Plan, moments: Iterable[Reading | Told]) -> Iterator[Happening]:
    """The story of these moments, in their order."""
    simulation = _Simulation(plan)
    for moment in sorted(moments, key=lambda one: one.at):
        yield from simulation.look_at_the_clock(moment.at)
        yield from simulation.read(moment) if isinstance(moment, Reading) else simulation.hear(moment)
        yield from simulation.begin(moment.at)


class _Simulation:
    """Everything that the agent would remember."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._watches: dict[tuple[str, str], Watch] = {}
        self._pasts: dict[tuple[str, str], Past] = {}
        self._episodes: dict[tuple[str, str, str, str], Episode] = {}
        self._done_until: dict[tuple[str, str], float] = {}
        self._runs: list[_Run] = []
        self._begun: list[Begun] = []
        self._latest: dict[str, Reading] = {}

    def look_at_the_clock(self, now: float) -> Iterator[Happening]:
        """Schedules that became due since the last moment."""
        for schedule in self._plan.schedules:
            for database in filter(schedule.covers, sorted(self._plan.databases)):
                key = (schedule.name, database)
                found = due(schedule, database, self._done_until.get(key, now), now)
                self._done_until[key] = found.done_until
                if found.missed:
                    yield Happening(
                        now, "missed", database, f"{found.missed} times before", schedule.name, schedule.action
                    )
                if found.firing is not None:
                    self._ask(request_of_schedule(schedule, database), now)

    def read(self, reading: Reading) -> Iterator[Happening]:
        """A reading ends what works on its database, lifts what it may, and steps the rules."""
        self._latest[reading.database] = reading
        yield from self._end_runs(reading)
        yield from self._lift(reading)
        for rule in (rule for rule in self._plan.rules if rule.covers(reading.database)):
            key = (rule.name, reading.database)
            found = _measured(rule.condition, reading)
            self._watches[key], asks = step(rule, self._watches.get(key, Watch()), found, reading.at)
            if asks:
                self._ask(request_of(rule, reading.database, "threshold"), reading.at)

    def hear(self, told: Told) -> Iterator[Happening]:
        """What each alert of a delivery asks for."""
        for alert in told.delivery.alerts:
            if alert.status == "resolved":
                yield from self._resolve(alert, told.at)
            else:
                yield from self._fire(alert, told.at)

    def begin(self, now: float) -> Iterator[Happening]:
        """Whatever may begin."""
        waiting = {number: run for number, run in enumerate(self._runs) if run.begun is None}
        line = [_waiting(number, run.request, self._plan.is_long) for number, run in waiting.items()]
        bounds = replace(self._plan.bounds, closed=closed(self._plan.windows, now))
        for one, hold in order(line, self._begun, bounds, now):
            run = waiting[one.id]
            if hold is None:
                yield self._start(run, now)
            elif not run.held:  # once for each run: it goes on to wait
                run.held = hold.why
                yield self._tell(run, now, "waits", hold.why)

    def _start(self, run: _Run, now: float) -> Happening:
        request, reading = run.request, self._latest.get(run.request.database)
        run.begun = now
        run.blocked = request.action == "checkpoint" and reading is not None and bool(reading.held_back)
        long = self._plan.is_long(request.action)
        self._begun.append(Begun(request.database, request.trigger, request.rule, now, long, runs=False))
        if reading is None or request.condition is None:
            self._ended(run, now, Outcome.DONE, None)
        else:
            run.before = _measured(request.condition, reading)
            if request.condition.judge(run.before) is Verdict.CLEAR:
                self._ended(run, now, Outcome.NOTHING_TO_DO, None, GONE)
                return self._tell(run, now, "ended", "nothing to do: no longer wrong")
        return self._tell(run, now, "runs", f"{request.action}, {_why(request, run.before)}")

    def _end_runs(self, reading: Reading) -> Iterator[Happening]:
        for run in self._runs:
            condition = run.request.condition
            if run.request.database != reading.database or run.begun is None or run.last.ended_at is not None:
                continue
            assert condition is not None  # noqa: S101 a run without one has ended with its start
            assert run.before is not None  # noqa: S101 so has one that no reading was known to
            after = _measured(condition, reading)
            found = effect(condition, run.before, after, blocked=run.blocked)
            was = self._past(run.request).standing
            self._ended(run, reading.at, Outcome.BLOCKED if run.blocked else Outcome.DONE, found, after=after.value)
            yield self._tell(run, reading.at, "ended", f"effect {found} ({_shown(run.before)} -> {_shown(after)})")
            if self._past(run.request).standing.suspended and not was.suspended:
                yield self._tell(run, reading.at, "suspended", "two runs in a row did not help")

    def _lift(self, reading: Reading) -> Iterator[Happening]:
        for (database, action), past in self._pasts.items():
            standing = past.standing
            if database != reading.database or standing.condition is None:
                continue
            found = _measured(standing.condition, reading)
            after = after_reading(standing, found, reading.at, held_back=reading.held_back)
            self._pasts[database, action] = replace(past, standing=after)
            if standing.suspended and not after.suspended:
                yield Happening(reading.at, "lifted", database, "may be tried again", standing.rule, action)

    def _fire(self, alert: Alert, now: float) -> Iterator[Happening]:
        database = alert.labels.get("database", "")
        if self._plan.identity is not None and alert.labels.get("instance") != self._plan.identity:
            yield Happening(now, "ignored", database, f"its instance is not {self._plan.identity} (identity)")
            return
        if database not in self._plan.databases:
            yield Happening(now, "ignored", database, "its database is not configured here")
            return
        rules = [rule for rule in self._plan.rules if rule.covers(database) and rule.is_started_by(alert.labels)]
        if not rules:
            yield Happening(now, "ignored", database, f"no rule has a matcher for it: {_name(alert)}")
        for rule in rules:
            yield from self._fire_rule(rule, database, alert, now)

    def _fire_rule(self, rule: Rule, database: str, alert: Alert, now: float) -> Iterator[Happening]:
        key = (alert.receiver, alert.fingerprint, rule.name, database)
        found = fires(self._episodes.get(key), now)
        last = None if found.run_id is None else self._runs[found.run_id].last
        heard: str = hear(found, last, rule.cooldown, now)
        if heard == "ask":
            name = f"{alert.fingerprint}/{found.number}"
            heard, number = self._ask(request_of(rule, database, "alert", name), now)
            found = found if number is None else asked(found, last, number)
        self._episodes[key] = found
        if heard != "accepted":
            yield Happening(now, "ignored", database, f"{heard}: {_name(alert)}", rule.name, rule.action)

    def _resolve(self, alert: Alert, now: float) -> Iterator[Happening]:
        for key, found in self._episodes.items():
            if key[:2] == (alert.receiver, alert.fingerprint) and found.state == "firing":
                self._episodes[key] = resolves(found, now)
                yield from self._cancel(found.run_id, now)

    def _cancel(self, number: int | None, now: float) -> Iterator[Happening]:
        if number is None or any(one.run_id == number and one.state == "firing" for one in self._episodes.values()):
            return
        run = self._runs[number]
        if run.begun is None and run.request.trigger == "alert":
            run.begun = now
            self._ended(run, now, Outcome.CANCELLED, None)
            yield self._tell(run, now, "ended", "cancelled: its alert resolved before it began")

    def _ask(self, request: Request, now: float) -> tuple[str, int | None]:
        past = self._past(request)
        decision = decide(past, request.cooldown, now)
        if decision != "accepted":
            return decision, past.busy
        self._runs.append(_Run(request))
        number = len(self._runs) - 1
        self._pasts[request.database, request.action] = replace(past, busy=number)
        return decision, number

    def _ended(
        self,
        run: _Run,
        now: float,
        outcome: Outcome,
        found: Effect | None,
        reason: str = "",
        after: float | None = None,
    ) -> None:
        run.last = LastRun(now, outcome, found)
        past, before = self._past(run.request), None if run.before is None else run.before.value
        ran = Ran(outcome, found, run.request.rule, run.request.condition, before, after, reason, "simulated")
        standing = after_run(past.standing, ran, now)
        self._pasts[run.request.database, run.request.action] = Past(now, None, standing)

    def _past(self, request: Request) -> Past:
        return self._pasts.get((request.database, request.action), Past())

    def _tell(self, run: _Run, now: float, kind: str, words: str) -> Happening:
        return Happening(now, kind, run.request.database, words, run.request.rule, run.request.action)


def _measured(condition: Condition, reading: Reading) -> Measured:
    return Measured(condition.measure(reading.samples, reading.at), publisher(condition.metric) not in reading.failed)


def _waiting(number: int, request: Request, is_long: Callable[[str], bool]) -> Waiting:
    long = is_long(request.action)
    return Waiting(number, request.database, request.action, request.trigger, request.rule, request.priority, long)


def _is_state(sample: Sample) -> bool:
    return sample.metric.name == "sqlite_wal_state"


def _why(request: Request, before: Measured | None) -> str:
    if request.condition is None:
        return f"by the schedule {request.rule}"
    alert = f", alert {request.episode}" if request.episode else ""
    return f"by the {request.trigger} of rule {request.rule}: {request.condition.metric} is {_shown(before)}{alert}"


def _shown(measured: Measured | None) -> str:
    if measured is None or not measured.read:
        return "not recorded"
    return "absent" if measured.value is None else f"{measured.value:.12g}"


def _name(alert: Alert) -> str:
    labels: Mapping[str, str] = alert.labels
    return labels.get("alertname", "an alert without a name")
