"""The gates of an action on a queue's rows: what its profile permits, and which confirmation of the operator it requires."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Refused
from collectors.access.at_rest import open_live_or_at_rest
from collectors.access.file_facts import describe_holder
from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.detection import detect_profile
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.run_queries import count_workers
from collectors.queue_profiles.schema import ActionGate
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable

PROFILE_NEXT_STEP = "correct the profile or its settings; `queuekeeper profiles check FILE DB` tries them"


@contextmanager
def planning_connection(context: ActionContext) -> Iterator[apsw.Connection]:
    """Open the database for the plan. Raises Refused where the profile fails or a read takes too long; apsw.Error."""
    try:
        with open_live_or_at_rest(context.target, context.raw) as connection:
            yield connection
    except ProfileError as error:
        raise Refused(str(error), reason="profile", next_step=PROFILE_NEXT_STEP) from error
    except TimeLimitExceeded as error:
        raise Refused(
            f"searching for the tasks takes too long: {error}",
            reason="too_long",
            next_step="create an index on the column with the tasks' state, or raise limits.read_wal",
        ) from error


def require_profile(context: ActionContext, connection: apsw.Connection) -> CompiledProfile:
    """The profile of the database. Raises Refused when no profile fits, ProfileError."""
    profile = detect_profile(connection, context.target)
    if profile is None:
        raise Refused(
            f"{context.target.path} is no queue that a profile knows",
            reason="no_profile",
            next_step="name one with `profile:` in the configuration",
        )
    return profile


def check_gate(
    context: ActionContext, connection: apsw.Connection, profile: CompiledProfile, gate: ActionGate, danger: str
) -> None:
    """Raises Refused where the gate's confirmation is missing. `danger`: what may happen where the queue is guarded."""
    if gate == "workers_stopped":
        _check_workers_stopped(context, connection, profile)
    is_confirmed = context.options.get("guarded") and context.options.get("limit")
    if gate == "guarded" and context.automatic and not is_confirmed:
        raise Refused(
            f"{danger}, so an automatic run needs the operator's confirmation",
            reason="guarded",
            next_step="if that cannot happen to you, confirm it in the rule: options: {guarded: true, limit: 500}",
        )


def _check_workers_stopped(context: ActionContext, connection: apsw.Connection, profile: CompiledProfile) -> None:
    if not context.options.get("workers_stopped"):
        raise Refused(
            "this queue cannot tell an abandoned task from a running one",
            reason="workers_running",
            next_step="stop all workers, then give --workers-stopped",
        )
    alive, _ = count_workers(connection, profile, context.now())
    if alive:
        raise Refused(
            f"the queue's table of workers lists {alive} with a recent heartbeat",
            reason="workers_running",
            next_step="stop them, and wait until the table lists none",
        )


def connected_processes(context: ActionContext) -> tuple[str, ...]:
    """Descriptions of other processes that have the database open; none where the kernel does not show them."""
    with suppress(LockTableUnseen, RawReaderUnavailable, OSError):
        ours = (-1, os.getpid(), os.getppid() if context.automatic else -1)
        locks = context.raw.find_held_locks(context.target.path)
        holders = {holder.pid: holder for holder in locks if holder.row.kind != "FLOCK"}
        return tuple(describe_holder(holder) for pid, holder in sorted(holders.items()) if pid not in ours)
    return ()
