"""The one door: lock, begin, read, guard, plan, record, run, measure again, judge, end.

Every action runs through `perform`, in a process of its own, whoever asked: a person, a threshold, a schedule or an alert.
"""

from collections.abc import Callable
from dataclasses import replace

import apsw

from actions.model.condition import Condition, Measured, Verdict
from actions.model.context import Work
from actions.model.errors import ActionError, Cancelled, Failed, Locked, NothingToDo, Refused
from actions.model.events import Event
from actions.model.lock_holders import in_the_way
from actions.model.memory import FreeLow, Memory
from actions.model.options import complaints
from actions.model.outcome import Outcome
from actions.model.plan import Done, Figure, Plan
from actions.model.request import Request
from actions.model.stop import Stop
from actions.policy.effect import effect
from actions.policy.suspension import GONE
from actions.policy.windows import closes_at
from actions.registry import ACTIONS, Action
from actions.runner.action_lock import take_action_lock
from actions.runner.guard_facts import gather
from actions.runner.guards import refusal
from actions.runner.measure import measure
from actions.runner.protocol import Job
from actions.runner.stop_watcher import wanted, watching
from actions.store.database import history, recording
from actions.store.free_pages import free_lows
from actions.store.recent_runs import last_attempt, newest_figure, source_trouble
from actions.store.runs import Ending, begin, end, record_plan
from collectors.access.errors import reason
from collectors.raw_reader.client import RawReader

# What these outcomes did can have had an effect; the others did nothing.
_ACTED = (Outcome.DONE, Outcome.FAILED, Outcome.BLOCKED, Outcome.UNVERIFIED)

Emit = Callable[[Event], None]
Clock = Callable[[], float]


def perform(job: Job, raw: RawReader, stop: Stop, emit: Emit, now: Clock) -> Outcome | None:
    """Perform one run and end it in history; its outcome, or None when the run was no longer this child's to begin.

    Raises StoreUnavailable when our history cannot be used: then nothing is done.
    """
    with history(job.state) as store:
        unlocked = _lock(job)
        if unlocked is None and not _begun(job, store, now):
            return None
        ending = unlocked or _watched(job, store, _work(job, store, raw, stop, emit, now))
        if not _ended(job, store, ending, now, begun=unlocked is None):
            return None
    emit(
        Event(
            "ended", ending.message, {"outcome": str(ending.outcome), "next_step": ending.next_step, **ending.figures}
        )
    )
    return ending.outcome


def _lock(job: Job) -> Ending | None:
    """Take the action lock; the ending when that is not possible."""
    try:
        action = ACTIONS.get(job.request.action)
        take_action_lock(job.target.path, job.state, may_be_missing=action is not None and action.MAY_BE_MISSING)
    except ActionError as error:
        return ending_of(error)
    return None


def _begun(job: Job, store: apsw.Connection, now: Clock) -> bool:
    with recording(job.state):
        return job.claim is None or begin(store, job.claim, now())


def _ended(job: Job, store: apsw.Connection, ending: Ending, now: Clock, *, begun: bool) -> bool:
    """A run that could not be begun here is ended as such only if nobody else has begun it."""
    with recording(job.state):
        return job.claim is None or end(store, job.claim, ending, now(), ("running" if begun else "claimed",))


def _work(job: Job, store: apsw.Connection, raw: RawReader, stop: Stop, emit: Emit, now: Clock) -> Work:
    with recording(job.state):
        attempted = last_attempt(store, job.request.database, job.request.action)
        trouble = source_trouble(store, job.request.database)
    return Work(
        target=job.target,
        options=job.request.options,
        automatic=job.request.automatic,
        trust_owner=job.trust_owner,
        last_attempt=attempted,
        source_trouble=trouble,
        raw=raw,
        stop=stop,
        now=now,
        emit=emit,
        memory=_memory(job, store),
        window_ends=None if job.window is None or not job.request.automatic else closes_at(job.window, now()),
    )


def _watched(job: Job, store: apsw.Connection, work: Work) -> Ending:
    """A plan is short and changes nothing; a run can be paused, cancelled, and told that its window is over."""
    if job.claim is None:
        return _judged(job, store, work)
    with recording(job.state):
        already = wanted(store, job.claim.run_id)
    if already is not None:
        work.stop.ask(because=already)
    with watching(job.state, job.claim.run_id, work.stop, lambda: _closing(job, work)):
        return _judged(job, store, work)


def _closing(job: Job, work: Work) -> ActionError | None:
    if work.window_ends is None or work.now() < work.window_ends:
        return None
    return Cancelled(
        f"stopped at a safe point: its window {job.window} is over",
        reason="window_closed",
        next_step=f"it goes on when it is asked for in the next window, or by hand: queuekeeper {job.request.action} "
        f"{job.request.database}",
    )


def _memory(job: Job, store: apsw.Connection) -> Memory:
    """For this process' main thread only: it asks on the connection that the run is recorded with."""
    database, action = job.request.database, job.request.action

    def figure(name: str) -> Figure:
        with recording(job.state):
            return newest_figure(store, database, action, name)

    def lows() -> tuple[FreeLow, ...]:
        with recording(job.state):
            return free_lows(store, database)

    return Memory(figure, lows)


def _judged(job: Job, store: apsw.Connection, work: Work) -> Ending:
    """Act, then measure what was wrong once more: an action that ended well may still not have helped."""
    condition = job.request.condition
    before = None if condition is None else measure(job.target, condition, work.raw, work.now)
    ending = replace(_acted(job, store, work, before), before=_number(before))
    if condition is None or before is None or not _may_have_helped(ending):
        return ending
    after = measure(job.target, condition, work.raw, work.now)
    blocked = ending.outcome is Outcome.BLOCKED
    return replace(ending, after=after.value, effect=effect(condition, before, after, blocked=blocked))


def _may_have_helped(ending: Ending) -> bool:
    """An action that finds nothing to do about what is wrong has not helped, either."""
    return ending.outcome in _ACTED or (ending.outcome is Outcome.NOTHING_TO_DO and ending.reason != GONE)


def _acted(job: Job, store: apsw.Connection, work: Work, before: Measured | None) -> Ending:
    try:
        action = _action_of(job.request)
        if job.request.condition is not None and before is not None:
            _check_condition(job.request.condition, before)
        _guard(job, action, store, work)
        work.stop.check()
        plan = action.plan(work)
        work.emit(Event("planned", "; ".join(plan.steps), {**plan.figures, "stall": plan.stall}))
        if job.claim is None or not plan.steps:
            return _ending_of_plan(plan)
        with recording(job.state):
            record_plan(store, job.claim, plan, _number(before))
        return _ending_of(action.run(work, plan))
    except ActionError as error:
        return ending_of(error)
    except apsw.Error as error:
        return ending_of(_of_sqlite(work, error))
    except OSError as error:
        return ending_of(Failed(str(error), reason="io", next_step="see the message; nothing was left half done"))


def _action_of(request: Request) -> Action:
    """The action asked for. Raises Refused unless it exists and takes the options given, whoever let them pass."""
    action = ACTIONS.get(request.action)
    if action is None:
        raise Refused(
            f"there is no action {request.action!r}", reason="unknown_action", next_step=f"known: {', '.join(ACTIONS)}"
        )
    wrong = complaints(action.OPTIONS, request.options, automatic=request.automatic)
    if wrong:
        raise Refused("; ".join(wrong), reason="options", next_step="correct the options")
    return action


def _check_condition(condition: Condition, before: Measured) -> None:
    """What is wrong is read live: an alert, a threshold and a queue of runs may all be late."""
    verdict = condition.judge(before)
    if verdict is Verdict.UNKNOWN:
        raise Refused(
            f"{condition.metric} cannot be read now, so nothing says that acting would help",
            reason="condition_unreadable",
            next_step="see queuekeeper_collector_success and `queuekeeper stats`",
        )
    if verdict is Verdict.CLEAR:
        raise NothingToDo(f"{condition.metric} is {before.value:g}: no longer wrong", reason=GONE, next_step="")


def _guard(job: Job, action: Action, store: apsw.Connection, work: Work) -> None:
    refused = refusal(gather(job, action, store, work.now()))
    if refused is not None:
        raise refused


def _number(measured: Measured | None) -> float | None:
    return None if measured is None else measured.value


def _ending_of_plan(plan: Plan) -> Ending:
    if plan.steps:
        figures = {**plan.figures, "stall": plan.stall}
        if plan.warnings:
            figures["warnings"] = "; ".join(plan.warnings)
        return Ending(Outcome.DONE, "planned only: " + "; ".join(plan.steps), figures=figures)
    return Ending(Outcome.NOTHING_TO_DO, "nothing to do", figures=plan.figures)


def _ending_of(done: Done) -> Ending:
    return Ending(Outcome.DONE, done.message, figures=done.figures, amounts=done.totals)


def ending_of(error: ActionError) -> Ending:
    """The ending of a run that stopped early."""
    return Ending(
        error.outcome,
        str(error),
        reason=error.reason,
        next_step=error.next_step,
        figures=error.figures,
        amounts=error.totals,
    )


def _of_sqlite(work: Work, error: apsw.Error) -> ActionError:
    """In the words that a reading has for it: SQLite's own mislead in places."""
    path = work.target.path
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Locked(
            f"{path}: {in_the_way(work)} holds the database",
            reason="busy",
            next_step="`queuekeeper readers` shows who holds it; run it again later",
        )
    if isinstance(error, apsw.FullError):
        cure = "free space where the database, its WAL and temporary files lie; nothing was left half done"
        return Failed(f"{path}: {error}", reason="disk_full", next_step=cure)
    return Failed(
        f"{path}: {reason(error)[1]}",
        reason=type(error).__name__,
        next_step="see `queuekeeper stats` for the database's state",
    )
