"""What the queue's profile lets be done with its rows, and who must have said so."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Refused
from collectors.access.connection import open_read_only
from collectors.access.file_facts import describe_holder
from collectors.access.timeouts import TimeLimitExceeded
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.detection import detect_profile
from collectors.queue_profiles.run_queries import count_workers
from collectors.queue_profiles.schema import ActionGate, ProfileError
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable

PROFILE_NEXT_STEP = "mend the profile or its settings; `queuekeeper profiles check FILE DB` tries them"


@contextmanager
def planning_connection(work: ActionContext) -> Iterator[apsw.Connection]:
    """A connection for the plan. Raises Refused where the profile does not work or a look takes too long; apsw.Error."""
    try:
        with open_read_only(work.target.path) as connection:
            yield connection
    except ProfileError as error:
        raise Refused(str(error), reason="profile", next_step=PROFILE_NEXT_STEP) from error
    except TimeLimitExceeded as error:
        raise Refused(
            f"looking for the tasks takes too long: {error}",
            reason="too_long",
            next_step="an index on the column that tells their state would help; or raise limits.read_wal",
        ) from error


def require_profile(work: ActionContext, connection: apsw.Connection) -> CompiledProfile:
    """The profile of the database. Raises Refused without one, ProfileError."""
    profile = detect_profile(connection, work.target)
    if profile is None:
        raise Refused(
            f"{work.target.path} is no queue that a profile knows",
            reason="no_profile",
            next_step="name one with `profile:` in the configuration",
        )
    return profile


def check_gate(
    work: ActionContext, connection: apsw.Connection, profile: CompiledProfile, gate: ActionGate, danger: str
) -> None:
    """Raises Refused unless those have given their word who must. `danger`: what a guarded queue does not rule out."""
    if gate == "workers_stopped":
        _check_workers_stopped(work, connection, profile)
    if gate == "guarded" and work.automatic and not (work.options.get("guarded") and work.options.get("limit")):
        raise Refused(
            f"{danger}, so nobody may do it here unasked",
            reason="guarded",
            next_step="if that cannot happen to you, say so in the rule: options: {guarded: true, limit: 500}",
        )


def _check_workers_stopped(work: ActionContext, connection: apsw.Connection, profile: CompiledProfile) -> None:
    if not work.options.get("workers_stopped"):
        raise Refused(
            "this queue cannot tell an abandoned task from a running one",
            reason="workers_running",
            next_step="stop all workers, then give --workers-stopped",
        )
    alive, _ = count_workers(connection, profile, work.now())
    if alive:
        raise Refused(
            f"the queue's own list has {alive} workers that were heard of lately",
            reason="workers_running",
            next_step="stop them, and wait until the list says so",
        )


def connected_processes(work: ActionContext) -> tuple[str, ...]:
    """Other processes that have the database open, in words; none where the kernel does not show them."""
    with suppress(LockTableUnseen, RawReaderUnavailable, OSError):
        ours = (-1, os.getpid(), os.getppid() if work.automatic else -1)
        holders = {one.pid: one for one in work.raw.find_held_locks(work.target.path) if one.row.kind != "FLOCK"}
        return tuple(describe_holder(one) for pid, one in sorted(holders.items()) if pid not in ours)
    return ()
