"""Deletes finished tasks that were kept long enough, in short transactions beside the live workers.

Runbook: docs/runbook.md#procedure-purge. What may go, and what goes along, is the profile's. The space stays in the file
until a vacuum gives it back. A task that holds an idempotency key stays: without its row the same task could be enqueued,
and run, again; only the operator's word lets it go.
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

# Tasks that stay for their key are counted up to here.
MOST_KEYED = 10_000
DANGER = "nothing is known of who still needs this queue's finished tasks"


def plan(work: ActionContext) -> Plan:
    """Count the victims and show the first. Raises Refused where gates or keys say no, NothingToDo."""
    older_than = older_than_option(work)
    with planning_connection(work) as connection:
        profile = require_profile(work, connection)
        purge = _require_purge(profile)
        check_gate(work, connection, profile, purge.gate, DANGER)
        takings = _row_selections(work, purge)
        require_indexes(connection, takings, foreign_keys=True)
        found = preview_rows(work, connection, takings, limit_option(work), older_than)
        kept = _count_keyed_tasks(work, connection, purge)
    if found.number == 0:
        raise _nothing_to_purge(work, kept)
    return Plan(
        steps=(f"delete {found.tasks_text}: {found.rows_text}", *_key_warnings(work, purge, kept)),
        figures={
            "finished": found.number,
            "at_least": found.at_least,
            "kept_for_their_key": kept,
            "frees_idempotency_keys": bool(work.options.get("free_idempotency_keys")) and purge.frees_idempotency_keys,
        },
        stall=work.target.limits.write_lock,
        warnings=_key_warnings(work, purge, kept),
    )


def run(work: ActionContext, plan: Plan) -> Done:
    """Delete the finished tasks in turns. What was deleted before a stop stays deleted and is told."""
    return run_batch_action(
        work,
        BatchAction(
            selections=lambda connection: _row_selections(work, _require_purge(require_profile(work, connection))),
            planned_rows=int(plan.figures["finished"] or 0),
            progress_text="purged tasks",
            message=lambda progress: _result_message(work, progress, int(plan.figures["kept_for_their_key"] or 0)),
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
            f"the profile {profile.name} has nothing to purge: its queue deletes what is done",
            reason="no_purge",
            next_step="see docs/profiles.md",
        )
    return profile.purge


def _spares_keyed_tasks(work: ActionContext, purge: CompiledPurge) -> bool:
    return purge.frees_idempotency_keys and not work.options.get("free_idempotency_keys")


def _row_selections(work: ActionContext, purge: CompiledPurge) -> tuple[RowSelection, ...]:
    return purge.keyless if _spares_keyed_tasks(work, purge) else purge.selections


def _count_keyed_tasks(work: ActionContext, connection: apsw.Connection, purge: CompiledPurge) -> int:
    """How many finished tasks stay for their idempotency key; at most KEPT."""
    keyed = purge.keyed if _spares_keyed_tasks(work, purge) else ()
    return count_up_to(
        work, connection, (one.count_statement(work.now(), older_than_option(work)) for one in keyed), MOST_KEYED
    )


def _nothing_to_purge(work: ActionContext, kept: int) -> NothingToDo | Refused:
    if kept == 0:
        return NothingToDo("no finished task is old enough", reason="nothing_finished", next_step="")
    return Refused(
        f"{_count_text(kept)} finished tasks hold an idempotency key: without their rows the queue would take the same tasks again",
        reason="idempotency_keys",
        next_step=f"queuekeeper purge {work.target.name} --free-idempotency-keys, once nobody enqueues them again; "
        "in a rule: options: {free_idempotency_keys: true}",
        figures={"kept_for_their_key": kept},
    )


def _key_warnings(work: ActionContext, purge: CompiledPurge, kept: int) -> tuple[str, ...]:
    if kept:
        return (f"{_count_text(kept)} more stay, since they hold an idempotency key (--free-idempotency-keys)",)
    if purge.frees_idempotency_keys and not _spares_keyed_tasks(work, purge):
        return ("beware: their idempotency keys are free then, and the same tasks can be enqueued again",)
    return ()


def _count_text(kept: int) -> str:
    return f"at least {kept}" if kept == MOST_KEYED else str(kept)


def _result_message(work: ActionContext, progress: BatchProgress, kept: int) -> str:
    free = _free_bytes(work)
    stay = f"; {_count_text(kept)} stay for their idempotency key" if kept else ""
    space = f"; {free} bytes of the file are free: queuekeeper vacuum {work.target.name}" if free else ""
    return f"purged {progress.destinations['gone']} finished tasks{stay}{space}"


def _free_bytes(work: ActionContext) -> int:
    with open_read_only(work.target.path) as connection:
        return int(connection.pragma("freelist_count")) * int(connection.pragma("page_size"))


def _result_figures(progress: BatchProgress) -> Mapping[str, Figure]:
    return {"purged": progress.destinations["gone"]}
