"""Deletes finished tasks that were kept long enough, in short transactions beside the live workers.

Runbook: docs/runbook.md#procedure-purge. What may go, and what goes along, is the profile's. The space stays in the file
until a vacuum gives it back. A task that holds an idempotency key stays: without its row the same task could be enqueued,
and run, again; only the operator's word lets it go.
"""

from collections.abc import Mapping

import apsw

from actions.batches.batch_loop import Account
from actions.batches.gates import check_gate, looking, queue_profile
from actions.batches.index_check import check_searches
from actions.batches.preview import count_up_to, planned_rows
from actions.batches.run import Sweep, limit_of, older_than_of, sweep
from actions.model.context import Work
from actions.model.errors import NothingToDo, Refused
from actions.model.options import OptionKind
from actions.model.plan import Done, Figure, Plan
from collectors.access.connection import read_only
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.row_selection import CompiledPurge, Taking

NAME = "purge"
LONG = True
AUTOMATIC = True
MAY_BE_MISSING = False
WINDOWED = True
DESTRUCTIVE = True
OPTIONS = {
    "older_than": OptionKind("seconds", "only tasks that ended at least this long ago, in seconds"),
    "limit": OptionKind("count", "at most this many tasks"),
    "free_idempotency_keys": OptionKind(
        "flag", "the operator's word that a purged task's idempotency key may be used again"
    ),
    "guarded": OptionKind("flag", "the operator's word that nobody needs these finished tasks any more"),
    "workers_stopped": OptionKind("flag", "no worker runs now", by_person=True),
}

# Tasks that stay for their key are counted up to here.
KEPT = 10_000
DANGER = "nothing is known of who still needs this queue's finished tasks"


def plan(work: Work) -> Plan:
    """Count the victims and show the first. Raises Refused where gates or keys say no, NothingToDo."""
    older_than = older_than_of(work)
    with looking(work) as connection:
        profile = queue_profile(work, connection)
        purge = _purge_of(profile)
        check_gate(work, connection, profile, purge.gate, DANGER)
        takings = _takings(work, purge)
        check_searches(connection, takings, foreign_keys=True)
        found = planned_rows(work, connection, takings, limit_of(work), older_than)
        kept = _kept(work, connection, purge)
    if found.number == 0:
        raise _nothing(work, kept)
    return Plan(
        steps=(f"delete {found.tasks}: {found.named}", *_said_of_keys(work, purge, kept)),
        figures={
            "finished": found.number,
            "at_least": found.at_least,
            "kept_for_their_key": kept,
            "frees_idempotency_keys": bool(work.options.get("free_idempotency_keys")) and purge.frees_idempotency_keys,
        },
        stall=work.target.limits.write_lock,
        warnings=_said_of_keys(work, purge, kept),
    )


def run(work: Work, plan: Plan) -> Done:
    """Delete the finished tasks in turns. What was deleted before a stop stays deleted and is told."""
    return sweep(
        work,
        Sweep(
            takings=lambda connection: _takings(work, _purge_of(queue_profile(work, connection))),
            planned=int(plan.figures["finished"] or 0),
            doing="purged tasks",
            told=lambda account: _told(work, account, int(plan.figures["kept_for_their_key"] or 0)),
            figures=lambda account: {**_figures(account), "kept_for_their_key": plan.figures["kept_for_their_key"]},
            totals=lambda account: {"purged_tasks": float(account.to["gone"])},
            foreign_keys=True,
        ),
    )


def _purge_of(profile: CompiledProfile) -> CompiledPurge:
    if profile.purge is None:
        raise Refused(
            f"the profile {profile.name} has nothing to purge: its queue deletes what is done",
            reason="no_purge",
            next_step="see docs/profiles.md",
        )
    return profile.purge


def _keys_stay(work: Work, purge: CompiledPurge) -> bool:
    return purge.frees_idempotency_keys and not work.options.get("free_idempotency_keys")


def _takings(work: Work, purge: CompiledPurge) -> tuple[Taking, ...]:
    return purge.keyless if _keys_stay(work, purge) else purge.takings


def _kept(work: Work, connection: apsw.Connection, purge: CompiledPurge) -> int:
    """How many finished tasks stay for their idempotency key; at most KEPT."""
    keyed = purge.keyed if _keys_stay(work, purge) else ()
    return count_up_to(work, connection, (one.count(work.now(), older_than_of(work)) for one in keyed), KEPT)


def _nothing(work: Work, kept: int) -> NothingToDo | Refused:
    if kept == 0:
        return NothingToDo("no finished task is old enough", reason="nothing_finished", next_step="")
    return Refused(
        f"{_some(kept)} finished tasks hold an idempotency key: without their rows the queue would take the same tasks again",
        reason="idempotency_keys",
        next_step=f"queuekeeper purge {work.target.name} --free-idempotency-keys, once nobody enqueues them again; "
        "in a rule: options: {free_idempotency_keys: true}",
        figures={"kept_for_their_key": kept},
    )


def _said_of_keys(work: Work, purge: CompiledPurge, kept: int) -> tuple[str, ...]:
    if kept:
        return (f"{_some(kept)} more stay, since they hold an idempotency key (--free-idempotency-keys)",)
    if purge.frees_idempotency_keys and not _keys_stay(work, purge):
        return ("beware: their idempotency keys are free then, and the same tasks can be enqueued again",)
    return ()


def _some(kept: int) -> str:
    return f"at least {kept}" if kept == KEPT else str(kept)


def _told(work: Work, account: Account, kept: int) -> str:
    free = _free_bytes(work)
    stay = f"; {_some(kept)} stay for their idempotency key" if kept else ""
    space = f"; {free} bytes of the file are free: queuekeeper vacuum {work.target.name}" if free else ""
    return f"purged {account.to['gone']} finished tasks{stay}{space}"


def _free_bytes(work: Work) -> int:
    with read_only(work.target.path) as connection:
        return int(connection.pragma("freelist_count")) * int(connection.pragma("page_size"))


def _figures(account: Account) -> Mapping[str, Figure]:
    return {"purged": account.to["gone"]}
