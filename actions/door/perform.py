"""The one door: lock, begin, read, guard, plan, record, run, measure again, judge, end.

Every action runs through `perform`, in a process of its own, whoever asked: a person, a threshold, a schedule or an alert.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import apsw

from actions.door.guard import Facts, refusal
from actions.door.job import Job
from actions.door.lock import take_action_lock
from actions.door.measure import measure
from actions.history.runs import Ending, begin, end, last_attempt, record_plan
from actions.history.settings import paused
from actions.history.store import history
from actions.policy.effect import effect
from actions.registry import ACTIONS
from actions.run.condition import Verdict
from actions.run.errors import ActionError, Failed, NothingToDo, Refused
from actions.run.events import Event
from actions.run.outcome import Outcome
from actions.run.plan import Done, Plan
from actions.run.stop import Stop
from actions.run.work import Work
from collectors.owner import vulnerable
from collectors.raw_reader.ask import RawReader

# What these outcomes did can have had an effect; the others did nothing.
_ACTED = (Outcome.DONE, Outcome.FAILED, Outcome.BLOCKED, Outcome.UNVERIFIED)

Emit = Callable[[Event], None]
Clock = Callable[[], float]


def perform(job: Job, raw: RawReader, stop: Stop, emit: Emit, now: Clock) -> Outcome | None:
    """Perform one run and end it in history; its outcome, or None when the run was no longer this child's to begin.

    Raises StoreUnavailable when our history cannot be used: then nothing is done.
    """
    with history(job.state) as store:
        ending = _locked_run(job, store, raw, stop, emit, now)
        if ending is None:
            return None
        if job.claim is not None and not end(store, job.claim, ending, now()):
            return None
    emit(
        Event(
            "ended", ending.message, {"outcome": str(ending.outcome), "next_step": ending.next_step, **ending.figures}
        )
    )
    return ending.outcome


def _locked_run(job: Job, store: apsw.Connection, raw: RawReader, stop: Stop, emit: Emit, now: Clock) -> Ending | None:
    try:
        take_action_lock(job.target.path, job.state)
    except ActionError as error:
        return ending_of(error)
    if job.claim is not None and not begin(store, job.claim, now()):
        return None
    work = Work(
        target=job.target,
        options=job.request.options,
        automatic=job.request.automatic,
        trust_owner=job.trust_owner,
        last_attempt=last_attempt(store, job.request.database, job.request.action),
        raw=raw,
        stop=stop,
        now=now,
        emit=emit,
    )
    return _judged(job, store, work)


def _judged(job: Job, store: apsw.Connection, work: Work) -> Ending:
    """Act, then measure what was wrong once more: an action that ended well may still not have helped."""
    before = _measure(job, work)
    ending = replace(_acted(job, store, work, before), before=before)
    if job.request.condition is None or ending.outcome not in _ACTED:
        return ending
    after = _measure(job, work)
    blocked = ending.outcome is Outcome.BLOCKED
    return replace(ending, after=after, effect=effect(job.request.condition, before, after, blocked=blocked))


def _acted(job: Job, store: apsw.Connection, work: Work, before: float | None) -> Ending:
    try:
        _check_condition(job, before)
        _guard(job, store)
        action = ACTIONS[job.request.action]
        plan = action.plan(work)
        work.emit(Event("planned", "; ".join(plan.steps), {**plan.figures, "stall": plan.stall}))
        if job.claim is None or not plan.steps:
            return _ending_of_plan(plan)
        record_plan(store, job.claim, plan, before)
        return _ending_of(action.run(work, plan))
    except ActionError as error:
        return ending_of(error)
    except apsw.Error as error:
        return ending_of(_of_sqlite(error))
    except OSError as error:
        return ending_of(Failed(str(error), reason="io", next_step="see the message; nothing was left half done"))


def _check_condition(job: Job, before: float | None) -> None:
    condition = job.request.condition
    if condition is None:
        return
    verdict = condition.judge(before)
    if verdict is Verdict.UNKNOWN:
        raise Refused(
            f"{condition.metric} cannot be read now, so nothing says that acting would help",
            reason="condition_unreadable",
            next_step="see queuekeeper_collector_success and `queuekeeper stats`",
        )
    if verdict is Verdict.CLEAR:
        raise NothingToDo(f"{condition.metric} is {before:g}: no longer wrong", reason="condition_gone", next_step="")


def _guard(job: Job, store: apsw.Connection) -> None:
    free = os.statvfs(job.state)
    facts = Facts(
        user=os.geteuid(),
        owner=job.target.path.stat().st_uid,
        state_free=free.f_bavail * free.f_frsize,
        paused=paused(store),
        linked_sqlite_vulnerable=vulnerable(apsw.sqlite_lib_version()),
        linked_sqlite=apsw.sqlite_lib_version(),
    )
    refused = refusal(facts)
    if refused is not None:
        raise refused


def _measure(job: Job, work: Work) -> float | None:
    if job.request.condition is None:
        return None
    return measure(job.target, job.request.condition, work.raw, work.now)


def _ending_of_plan(plan: Plan) -> Ending:
    if plan.steps:
        return Ending(Outcome.DONE, "planned only: " + "; ".join(plan.steps), figures=plan.figures)
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


def _of_sqlite(error: apsw.Error) -> ActionError:
    return Failed(
        f"SQLite: {error}", reason=type(error).__name__, next_step="see `queuekeeper stats` for the database's state"
    )
