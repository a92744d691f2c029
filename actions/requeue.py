"""Gives tasks whose lease ran out back to the queue, in short transactions beside the live workers.

Runbook: docs/runbook.md#queuestaleleases. What counts as stale is the profile's row set, the same predicate that the gauge
counts: a holder who lives is spared. It holds again for each row inside its transaction, with the lease and the holder
that were seen, so a completion or a renewal that comes first wins.
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

# Tasks whose holder lives are counted up to here.
MOST_SPARED = 10_000
DANGER = "a worker that is merely slow may run its task twice"
RUN_TWICE_NOTE = "; they may run twice where a worker was merely slow"


def plan(work: ActionContext) -> Plan:
    """Count the victims and show the first. Raises Refused where the profile's gate says no, NothingToDo."""
    older_than = older_than_option(work)
    with planning_connection(work) as connection:
        profile = require_profile(work, connection)
        requeue = _require_requeue(profile)
        check_gate(work, connection, profile, requeue.gate, DANGER)
        require_indexes(connection, requeue.selections, foreign_keys=False)
        found = preview_rows(work, connection, requeue.selections, limit_option(work), older_than)
        living = (taking.spared_count_statement(work.now(), older_than) for taking in requeue.selections)
        # To find few of those among very many stale ones, all of these would be visited.
        spared = 0 if found.at_least else count_up_to(work, connection, living, MOST_SPARED)
    if found.number == 0:
        raise _nothing_to_do(spared)
    beware = (DANGER,) * requeue.may_run_twice
    open_elsewhere = connected_processes(work) if requeue.gate == "workers_stopped" else ()
    beware += tuple(f"{who} has the database open: is it a worker?" for who in open_elsewhere)
    return Plan(
        steps=(
            f"give {found.tasks_text} back to the queue: {found.rows_text}",
            *(f"beware: {warning}" for warning in beware),
        ),
        figures={
            "stale": found.number,
            "at_least": found.at_least,
            "spared_alive": spared,
            "may_run_twice": requeue.may_run_twice,
        },
        stall=work.target.limits.write_lock,
        warnings=beware,
    )


def run(work: ActionContext, plan: Plan) -> Done:
    """Move the stale tasks in turns. What was moved before a stop stays moved and is told."""
    twice = bool(plan.figures["may_run_twice"])
    return run_batch_action(
        work,
        BatchAction(
            selections=lambda connection: _require_requeue(require_profile(work, connection)).selections,
            planned_rows=int(plan.figures["stale"] or 0),
            progress_text="requeued tasks",
            message=lambda progress: _result_message(progress) + RUN_TWICE_NOTE * twice,
            figures=lambda progress: {**_result_figures(progress), "may_run_twice": twice},
            totals=lambda progress: {"requeued_tasks": float(progress.destinations["waiting"])},
        ),
    )


def _require_requeue(profile: CompiledProfile) -> CompiledRequeue:
    if profile.requeue is None:
        raise Refused(
            f"the profile {profile.name} has nothing to requeue: the file does not tell which tasks were abandoned",
            reason="no_requeue",
            next_step="see docs/profiles.md",
        )
    return profile.requeue


def _nothing_to_do(spared: int) -> NothingToDo:
    if spared == 0:
        return NothingToDo("no lease has run out", reason="no_stale_leases", next_step="")
    return NothingToDo(
        f"{spared} tasks are past their lease, and their workers live: they are left to them",
        reason="holders_live",
        next_step="when a worker is gone its task is stale; the profile's setting `spare_alive` says how long one is spared",
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
