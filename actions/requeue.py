"""Gives tasks with a stale lease back to the queue, in short transactions beside the live workers.

Runbook: docs/runbook.md#queuestaleleases. The profile defines which leases are stale, with the same predicate
that the gauge counts: a task with a live holder is spared. Each row is tested again inside its transaction, with the lease
and the holder that were seen, so a completion or a renewal that comes first wins.
"""

from collections.abc import Mapping

from actions.batches.apply_rows import BatchProgress
from actions.batches.gates import check_gate, connected_processes, planning_connection, require_profile
from actions.batches.index_check import require_indexes
from actions.batches.preview import count_up_to, preview_rows
from actions.batches.run import BatchAction, limit_option, older_than_option, run_batch_action
from actions.model.context import ActionContext
from actions.model.errors import NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.row_selection import CompiledRequeue

SPEC = ActionSpec(
    name="requeue",
    summary="Give tasks with an expired lease back to the queue, in short transactions.",
    options={
        "older_than": ActionOption("seconds", "Only leases that expired at least this long ago.", example="300s"),
        "limit": ActionOption("count", "At most this many tasks."),
        "guarded": ActionOption(
            "flag", "The operator confirms that the grace is longer than the longest task.", on_command_line=False
        ),
        "workers_stopped": ActionOption("flag", "You confirm that no worker is running.", by_person=True),
    },
)

# Tasks with a live holder are counted up to this number.
MOST_SPARED = 10_000
DANGER = "a worker that is only slow may run its task twice"
RUN_TWICE_NOTE = "; they may run twice where a worker was only slow"


def plan(context: ActionContext) -> Plan:
    """Count the stale tasks and show the first. Raises Refused where the profile's gate refuses, NothingToDo."""
    older_than = older_than_option(context)
    with planning_connection(context) as connection:
        profile = require_profile(context, connection)
        requeue = _require_requeue(profile)
        check_gate(context, connection, profile, requeue.gate, DANGER)
        require_indexes(connection, requeue.selections, foreign_keys=False)
        preview = preview_rows(context, connection, requeue.selections, limit_option(context), older_than)
        counts = (rows.spared_count_statement(context.now(), older_than) for rows in requeue.selections)
        # To count few spared tasks among very many stale ones, all of these would be visited.
        spared = 0 if preview.at_least else count_up_to(context, connection, counts, MOST_SPARED)
    if preview.number == 0:
        raise _nothing_to_do(spared)
    warnings = _plan_warnings(context, requeue)
    return Plan(
        steps=(
            f"give {preview.tasks_text} back to the queue: {preview.rows_text}",
            *(f"warning: {warning}" for warning in warnings),
        ),
        figures={
            "stale": preview.number,
            "at_least": preview.at_least,
            "spared_alive": spared,
            "may_run_twice": requeue.may_run_twice,
        },
        stall=context.target.limits.write_lock,
        warnings=warnings,
    )


def _plan_warnings(context: ActionContext, requeue: CompiledRequeue) -> tuple[str, ...]:
    processes = connected_processes(context) if requeue.gate == "workers_stopped" else ()
    open_elsewhere = tuple(f"{process} has the database open: is it a worker?" for process in processes)
    return (DANGER,) * requeue.may_run_twice + open_elsewhere


def run(context: ActionContext, plan: Plan) -> Done:
    """Requeue the stale tasks in batches. What was committed before a stop stays, and is in the result."""
    may_run_twice = bool(plan.figures["may_run_twice"])
    return run_batch_action(
        context,
        BatchAction(
            selections=lambda connection: _require_requeue(require_profile(context, connection)).selections,
            planned_rows=int(plan.figures["stale"] or 0),
            progress_text="requeued tasks",
            message=lambda progress: _result_message(progress) + RUN_TWICE_NOTE * may_run_twice,
            figures=lambda progress: {**_result_figures(progress), "may_run_twice": may_run_twice},
            totals=lambda progress: {"requeued_tasks": float(progress.destinations["waiting"])},
        ),
    )


def _require_requeue(profile: CompiledProfile) -> CompiledRequeue:
    if profile.requeue is None:
        raise Refused(
            f"the profile {profile.name} has nothing to requeue: the database does not tell which tasks were abandoned",
            reason="no_requeue",
            next_step="see docs/profiles.md",
        )
    return profile.requeue


def _nothing_to_do(spared: int) -> NothingToDo:
    if spared == 0:
        return NothingToDo("no lease is stale", reason="no_stale_leases", next_step="")
    return NothingToDo(
        f"{spared} tasks have an expired lease, but their workers are alive and keep them",
        reason="holders_live",
        next_step="a task becomes stale when its worker is gone, or after the profile's setting `spare_alive`",
        figures={"spared_alive": spared},
    )


def _result_message(progress: BatchProgress) -> str:
    dead = (
        f", {progress.destinations['dead']} had no attempts left and are dead" if progress.destinations["dead"] else ""
    )
    number = progress.destinations["waiting"]
    return f"requeued {number} task{'s' * (number != 1)}{dead}"


def _result_figures(progress: BatchProgress) -> Mapping[str, Figure]:
    return {"requeued": progress.destinations["waiting"], "dead": progress.destinations["dead"]}
