"""Executes a run: lock, start, measure, guard, plan, record, run, measure again, judge, end.

Every run goes through `execute_run`, in a process of its own, whichever trigger requested it: a person, a threshold, a
schedule or an alert.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import apsw

from actions.model.condition import Condition, ConditionVerdict, Measurement
from actions.model.context import ActionContext, FreePageMinimum, RunHistory, describe_lock_holder
from actions.model.errors import ActionError, Cancelled, Failed, Locked, NothingToDo, Refused
from actions.model.events import Event
from actions.model.io_errors import is_unwritable_folder, translate_io_error
from actions.model.options import option_problems
from actions.model.outcome import Outcome
from actions.model.plan import ACCEPTED_FIGURE, Done, Figure, Plan
from actions.model.request import Request
from actions.model.stop import StopSignal
from actions.policy.effect import condition_measurement, measured_effect
from actions.policy.suspension import CONDITION_GONE
from actions.policy.windows import window_closes_at
from actions.registry import ACTIONS, Action
from actions.runner.action_lock import acquire_action_lock
from actions.runner.guard_facts import gather_guard_inputs
from actions.runner.guards import first_refusal
from actions.runner.protocol import Job
from actions.runner.stop_watcher import requested_stop, watch_for_stop
from actions.store.content_seen import accept_content, load_content_memory
from actions.store.database import state_store, translate_store_errors
from actions.store.free_pages import load_free_page_minimums
from actions.store.recent_runs import highest_backup_sequence, last_attempt, newest_figure, source_failure
from actions.store.run_rows import CLOCK_MOVED
from actions.store.runs import RunEnding, end_run, record_plan, start_run
from collectors.access.errors import NotAtRest, describe_failure
from collectors.content_loss.memory import ContentMemory
from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.registry import needs_two_readings, publishing_collector
from collectors.target import Target
from collectors.wal_state import MIN_DISTANCE

# A run that ended like this may have had an effect; with any other outcome nothing was done.
_ACTED_OUTCOMES = (Outcome.DONE, Outcome.FAILED, Outcome.BLOCKED, Outcome.UNVERIFIED)

# A clock that moves by less than this against the time since the start of the machine was not set, in seconds.
SMALLEST_CLOCK_STEP = 2.0

Emit = Callable[[Event], None]
Clock = Callable[[], float]


def execute_run(job: Job, raw: RawReader, stop: StopSignal, emit: Emit, now: Clock) -> Outcome | None:
    """Perform one run and end it in history. Returns its outcome; None when the run no longer belonged to this child.

    Raises StoreUnavailable when our history cannot be used: then nothing is done.
    """
    with state_store(job.state) as store:
        not_locked = _acquire_lock(job)
        if not_locked is None and not _start_in_store(job, store, now):
            return None
        clock_moved = _watch_clock(now)
        ending = not_locked or _run_watched(job, store, _build_context(job, store, raw, stop, emit, now))
        if moved := clock_moved():
            ending = replace(ending, figures={**ending.figures, CLOCK_MOVED: moved})
        if not _end_in_store(job, store, ending, now, started=not_locked is None):
            return None
    figures = {"outcome": str(ending.outcome), "next_step": ending.next_step, **ending.figures}
    emit(Event("ended", ending.message, figures))
    return ending.outcome


def _watch_clock(now: Clock) -> Callable[[], float]:
    """A function that says by how many seconds the clock was set since; 0 for what the slewing of a clock does.

    Against the time since the machine was started, which counts on while it sleeps: clock_gettime(2), CLOCK_BOOTTIME.
    """
    began = now() - _seconds_since_boot()

    def clock_moved() -> float:
        moved = now() - _seconds_since_boot() - began
        return round(moved, 3) if abs(moved) > SMALLEST_CLOCK_STEP else 0.0

    return clock_moved


def _seconds_since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _acquire_lock(job: Job) -> RunEnding | None:
    """Acquire the action lock; returns how the run ends when that is not possible."""
    try:
        action = ACTIONS.get(job.request.action)
        may_be_missing = action is not None and not action.SPEC.needs_database
        acquire_action_lock(job.target.path, job.state, may_be_missing=may_be_missing)
    except ActionError as error:
        return ending_of_error(error)
    return None


def _start_in_store(job: Job, store: apsw.Connection, now: Clock) -> bool:
    with translate_store_errors(job.state):
        return job.claim is None or start_run(store, job.claim, now())


def _end_in_store(job: Job, store: apsw.Connection, ending: RunEnding, now: Clock, *, started: bool) -> bool:
    """End the run; one that could not be started here only if no other child has started it."""
    with translate_store_errors(job.state):
        if (accepted := ending.figures.get(ACCEPTED_FIGURE)) is not None:
            accept_content(store, job.request.database, float(accepted))
        return job.claim is None or end_run(store, job.claim, ending, now(), ("running" if started else "claimed",))


def _build_context(
    job: Job, store: apsw.Connection, raw: RawReader, stop: StopSignal, emit: Emit, now: Clock
) -> ActionContext:
    with translate_store_errors(job.state):
        attempted_at = last_attempt(store, job.request.database, job.request.action, now())
        failure = source_failure(store, job.request.database)
    return ActionContext(
        target=job.target,
        options=job.request.options,
        automatic=job.request.is_automatic,
        trust_owner=job.trust_owner,
        last_attempt=attempted_at,
        source_failure=failure,
        raw=raw,
        stop=stop,
        now=now,
        emit=emit,
        run_history=_build_run_history(job, store),
        window_ends=None if job.window is None or not job.request.is_automatic else window_closes_at(job.window, now()),
    )


def _run_watched(job: Job, store: apsw.Connection, context: ActionContext) -> RunEnding:
    """Run, and stop at a safe point when paused, cancelled or out of the window. A plan alone is short: it is not watched."""
    if job.claim is None:
        return _run_and_measure(job, store, context)
    with translate_store_errors(job.state):
        requested = requested_stop(store, job.claim.run_id)
    if requested is not None:
        context.stop.request_stop(because=requested)
    with watch_for_stop(job.state, job.claim.run_id, context.stop, lambda: _window_over(job, context)):
        return _run_and_measure(job, store, context)


def _window_over(job: Job, context: ActionContext) -> ActionError | None:
    if context.window_ends is None or context.now() < context.window_ends:
        return None
    return Cancelled(
        f"stopped at a safe point: its window {job.window} is over",
        reason="window_closed",
        next_step="it goes on with the next request inside a window, or by hand: queuekeeper "
        f"{ACTIONS[job.request.action].SPEC.command} {job.request.database}",
    )


def _build_run_history(job: Job, store: apsw.Connection) -> RunHistory:
    """Past runs, read on demand. For the main thread only: it uses the connection that the run is recorded with."""
    database, action = job.request.database, job.request.action

    def read_figure(name: str) -> Figure:
        with translate_store_errors(job.state):
            return newest_figure(store, database, action, name)

    def read_minimums() -> tuple[FreePageMinimum, ...]:
        with translate_store_errors(job.state):
            return load_free_page_minimums(store, database)

    def read_sequence() -> int:
        with translate_store_errors(job.state):
            return highest_backup_sequence(store, database)

    def read_memory() -> ContentMemory:
        with translate_store_errors(job.state):
            return load_content_memory(store, database)

    return RunHistory(read_figure, read_minimums, content_memory=read_memory, backup_sequence=read_sequence)


def _run_and_measure(job: Job, store: apsw.Connection, context: ActionContext) -> RunEnding:
    """Act, then measure the condition once more: an action that ended well may still not have helped."""
    condition = job.request.condition
    before = None if condition is None else measure_condition(job.target, condition, context.raw, context.now)
    ending = replace(_guard_plan_run(job, store, context, before), before=_measured_value(before))
    if condition is None or before is None or not _may_have_helped(ending):
        return ending
    after = measure_condition(job.target, condition, context.raw, context.now)
    blocked = ending.outcome is Outcome.BLOCKED
    return replace(ending, after=after.value, effect=measured_effect(condition, before, after, blocked=blocked))


def _may_have_helped(ending: RunEnding) -> bool:
    """Whether an effect is to be measured. An action that finds nothing to do about a condition that holds has none."""
    return ending.outcome in _ACTED_OUTCOMES or (
        ending.outcome is Outcome.NOTHING_TO_DO and ending.reason != CONDITION_GONE
    )


def _guard_plan_run(job: Job, store: apsw.Connection, context: ActionContext, before: Measurement | None) -> RunEnding:
    try:
        action = _find_action(job.request)
        if job.request.condition is not None and before is not None:
            _check_condition(job.request.condition, before)
        _check_guards(job, action, store, context)
        context.stop.raise_if_requested()
        plan = action.plan(context)
        context.emit(Event("planned", "; ".join(plan.steps), {**plan.figures, "stall": plan.stall}))
        if job.claim is None or not plan.steps:
            return _ending_of_plan(plan)
        with translate_store_errors(job.state):
            record_plan(store, job.claim, plan, _measured_value(before))
        return _ending_of_done(action.run(context, plan))
    except ActionError as error:
        return ending_of_error(error)
    except apsw.Error as error:
        return ending_of_error(_translate_sqlite_error(context, error))
    except NotAtRest as error:
        return ending_of_error(Locked(str(error), reason="not_at_rest", next_step="run it again"))
    except OSError as error:
        return ending_of_error(translate_io_error(error))


def _find_action(request: Request) -> Action:
    """The requested action. Raises Refused unless it exists and takes these options, even if they were checked before."""
    action = ACTIONS.get(request.action)
    if action is None:
        raise Refused(
            f"there is no action {request.action!r}", reason="unknown_action", next_step=f"known: {', '.join(ACTIONS)}"
        )
    problems = option_problems(action.SPEC.options, request.options, automatic=request.is_automatic)
    if problems:
        raise Refused("; ".join(problems), reason="options", next_step="correct the options")
    return action


def _check_condition(condition: Condition, before: Measurement) -> None:
    """Read the condition live: an alert, a threshold and a pending run may all be late. Raises Refused, NothingToDo."""
    verdict = condition.judge_measurement(before)
    if verdict is ConditionVerdict.UNKNOWN:
        raise Refused(
            f"{condition.metric} cannot be read now, so nothing shows that acting would help",
            reason="condition_unreadable",
            next_step="see queuekeeper_collector_success and `queuekeeper stats`",
        )
    if verdict is ConditionVerdict.CLEAR:
        raise NothingToDo(
            f"{condition.metric} is {before.value:g}: no longer wrong", reason=CONDITION_GONE, next_step=""
        )


def _check_guards(job: Job, action: Action, store: apsw.Connection, context: ActionContext) -> None:
    inputs = gather_guard_inputs(job, action.SPEC, store, context.now(), context.raw)
    refused = first_refusal(inputs)
    if refused is not None:
        raise refused


def _measured_value(measured: Measurement | None) -> float | None:
    return None if measured is None else measured.value


def _ending_of_plan(plan: Plan) -> RunEnding:
    if plan.steps:
        figures = {**plan.figures, "stall": plan.stall}
        if plan.warnings:
            figures["warnings"] = "; ".join(plan.warnings)
        return RunEnding(Outcome.DONE, "planned only: " + "; ".join(plan.steps), figures=figures)
    return RunEnding(Outcome.NOTHING_TO_DO, "nothing to do", figures=plan.figures)


def _ending_of_done(done: Done) -> RunEnding:
    return RunEnding(Outcome.DONE, done.message, figures=done.figures, amounts=done.totals)


def ending_of_error(error: ActionError) -> RunEnding:
    """The ending of a run that stopped early."""
    return RunEnding(
        error.outcome,
        str(error),
        reason=error.reason,
        next_step=error.next_step,
        figures=error.figures,
        amounts=error.totals,
    )


def _translate_sqlite_error(context: ActionContext, error: apsw.Error) -> ActionError:
    """The error in the words that a collector has for it: SQLite's own mislead in places."""
    path = context.target.path
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return Locked(
            f"{path}: {describe_lock_holder(context)} holds the database",
            reason="busy",
            next_step="`queuekeeper readers` shows who holds it; run it again later",
        )
    if isinstance(error, apsw.FullError):
        cure = "free space on the disk of the database, its WAL and temporary files; nothing was left half done"
        return Failed(f"{path}: {error}", reason="disk_full", next_step=cure)
    if is_unwritable_folder(path, error):
        return Failed(
            f"{path}: SQLite must make files beside it and {path.parent} cannot be written here ({error})",
            reason="read_only",
            next_step="run it where that folder is mounted writable, as the database's owner",
        )
    return Failed(
        f"{path}: {describe_failure(error)[1]}",
        reason=type(error).__name__,
        next_step="see `queuekeeper stats` for the database's state",
    )


def measure_condition(target: Target, condition: Condition, raw: RawReader, now: Clock) -> Measurement:
    """The condition's number now, by the collector that publishes its metric: the dashboard shows the same number."""
    names = frozenset({publishing_collector(condition.metric)})
    snapshot = poll_database(target, None, now(), raw, only=names)
    if needs_two_readings(condition.metric):
        time.sleep(MIN_DISTANCE)
        snapshot = poll_database(target, snapshot, now(), raw, only=names)
    return condition_measurement(condition, snapshot, now())
