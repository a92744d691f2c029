"""Deletes finished tasks that are old enough, in short transactions beside the live workers.

Runbook: docs/runbook.md#procedure-purge. The profile defines which rows may be deleted, and their dependents.
The space stays in the file until a vacuum gives it back. A task with an idempotency key is not deleted: without its row the
same task could be enqueued, and run, again; that needs the operator's confirmation.
"""

from collections.abc import Mapping

import apsw

from actions.batches.apply_rows import BatchProgress
from actions.batches.gates import check_gate, planning_connection, require_profile
from actions.batches.index_check import require_indexes
from actions.batches.preview import count_up_to, preview_rows
from actions.batches.run import BatchAction, limit_option, older_than_option, run_batch_action
from actions.model.context import ActionContext
from actions.model.errors import NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from collectors.access.connection import open_read_only
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.row_selection import CompiledPurge, RowSelection

SPEC = ActionSpec(
    name="purge",
    summary="Delete finished tasks that are old enough, in short transactions.",
    caution="What is deleted is gone.",
    options={
        "older_than": ActionOption("seconds", "Only tasks that ended at least this long ago.", example="7d"),
        "limit": ActionOption("count", "At most this many tasks."),
        "free_idempotency_keys": ActionOption(
            "flag", "Also delete tasks with an idempotency key, which then may be used again."
        ),
        "guarded": ActionOption(
            "flag", "The operator confirms that these finished tasks are not needed any more.", on_command_line=False
        ),
        "workers_stopped": ActionOption("flag", "You confirm that no worker is running.", by_person=True),
    },
    lane="long",
    needs_window=True,
    needs_fresh_backup=True,
)

# Tasks that are spared for their key are counted up to this number.
MOST_KEYED = 10_000
DANGER = "it is not known which process still needs this queue's finished tasks"


def plan(context: ActionContext) -> Plan:
    """Count the finished tasks and show the first. Raises Refused because of a gate or of keys, NothingToDo."""
    older_than = older_than_option(context)
    with planning_connection(context) as connection:
        profile = require_profile(context, connection)
        purge = _require_purge(profile)
        check_gate(context, connection, profile, purge.gate, DANGER)
        selections = _row_selections(context, purge)
        require_indexes(connection, selections, foreign_keys=True)
        preview = preview_rows(context, connection, selections, limit_option(context), older_than)
        keyed_tasks = _count_keyed_tasks(context, connection, purge)
    if preview.number == 0:
        raise _nothing_to_purge(context, keyed_tasks)
    return Plan(
        steps=(f"delete {preview.tasks_text}: {preview.rows_text}", *_key_warnings(context, purge, keyed_tasks)),
        figures={
            "finished": preview.number,
            "at_least": preview.at_least,
            "kept_for_their_key": keyed_tasks,
            "frees_idempotency_keys": bool(context.options.get("free_idempotency_keys"))
            and purge.frees_idempotency_keys,
        },
        stall=context.target.limits.write_lock,
        warnings=_key_warnings(context, purge, keyed_tasks),
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Delete the finished tasks in batches. What was committed before a stop stays, and is in the result."""
    return run_batch_action(
        context,
        BatchAction(
            selections=lambda connection: _row_selections(
                context, _require_purge(require_profile(context, connection))
            ),
            planned_rows=int(plan.figures["finished"] or 0),
            progress_text="purged tasks",
            message=lambda progress: _result_message(context, progress, int(plan.figures["kept_for_their_key"] or 0)),
            figures=lambda progress: {
                **_result_figures(progress),
                "kept_for_their_key": plan.figures["kept_for_their_key"],
            },
            totals=lambda progress: {"purged_tasks": float(progress.destinations["gone"])},
            foreign_keys=True,
        ),
    )


def _require_purge(profile: CompiledProfile) -> CompiledPurge:
    if profile.purge is None:
        raise Refused(
            f"the profile {profile.name} has nothing to purge: its queue deletes finished tasks itself",
            reason="no_purge",
            next_step="see docs/profiles.md",
        )
    return profile.purge


def _spares_keyed_tasks(context: ActionContext, purge: CompiledPurge) -> bool:
    return purge.frees_idempotency_keys and not context.options.get("free_idempotency_keys")


def _row_selections(context: ActionContext, purge: CompiledPurge) -> tuple[RowSelection, ...]:
    return purge.keyless if _spares_keyed_tasks(context, purge) else purge.selections


def _count_keyed_tasks(context: ActionContext, connection: apsw.Connection, purge: CompiledPurge) -> int:
    """How many finished tasks are spared for their idempotency key; at most MOST_KEYED."""
    keyed = purge.keyed if _spares_keyed_tasks(context, purge) else ()
    return count_up_to(
        context,
        connection,
        (rows.count_statement(context.now(), older_than_option(context)) for rows in keyed),
        MOST_KEYED,
    )


def _nothing_to_purge(context: ActionContext, keyed_tasks: int) -> NothingToDo | Refused:
    if keyed_tasks == 0:
        return NothingToDo("no finished task is old enough", reason="nothing_finished", next_step="")
    return Refused(
        f"{_count_text(keyed_tasks)} finished tasks have an idempotency key: without their rows the queue would "
        "accept the same tasks again",
        reason="idempotency_keys",
        next_step=f"queuekeeper purge {context.target.name} --free-idempotency-keys, once no process enqueues them again; "
        "in a rule: options: {free_idempotency_keys: true}",
        figures={"kept_for_their_key": keyed_tasks},
    )


def _key_warnings(context: ActionContext, purge: CompiledPurge, keyed_tasks: int) -> tuple[str, ...]:
    if keyed_tasks:
        return (
            f"{_count_text(keyed_tasks)} more stay, because they have an idempotency key (--free-idempotency-keys)",
        )
    if purge.frees_idempotency_keys and not _spares_keyed_tasks(context, purge):
        return ("warning: this frees their idempotency keys, and the same tasks can be enqueued again",)
    return ()


def _count_text(keyed_tasks: int) -> str:
    return f"at least {keyed_tasks}" if keyed_tasks == MOST_KEYED else str(keyed_tasks)


def _result_message(context: ActionContext, progress: BatchProgress, keyed_tasks: int) -> str:
    free = _free_bytes(context)
    stay = f"; {_count_text(keyed_tasks)} stay for their idempotency key" if keyed_tasks else ""
    space = f"; {free} bytes of the file are free: queuekeeper vacuum {context.target.name}" if free else ""
    return f"purged {progress.destinations['gone']} finished tasks{stay}{space}"


def _free_bytes(context: ActionContext) -> int:
    with open_read_only(context.target.path) as connection:
        return int(connection.pragma("freelist_count")) * int(connection.pragma("page_size"))


def _result_figures(progress: BatchProgress) -> Mapping[str, Figure]:
    return {"purged": progress.destinations["gone"]}
