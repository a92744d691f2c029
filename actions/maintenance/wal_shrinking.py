"""Gives the WAL's space back: starts the log over, cuts its file in slices, and ends with a TRUNCATE that has little to cut.

What waits to be copied is copied beforehand where that blocks no process, so that each hold of the write lock is short.
"""

import random
import time
from contextlib import suppress

from actions.maintenance.checkpoint_pragma import count_frames, run_checkpoint
from actions.maintenance.checkpoint_record import CheckpointRecord
from actions.maintenance.checkpoint_stall import ShrinkingBudget, accepted_stall
from actions.maintenance.wal_copying import copy_below_pin, copy_whole_log
from actions.maintenance.wal_slices import cut_unused_tail
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused
from actions.sqlite.blockers import find_checkpoint_blocker
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.pacing import delay_after_hold
from actions.sqlite.wal_restart import RestartConnection, open_for_restart

# How often the log is started over at most: while the first file is cut, the application's log may grow anew.
MOST_RESTARTS = 6
# How often a TRUNCATE is tried beside readers without a gap, and the seconds between two tries, at random so that it is not
# always at the same moment of theirs. Three readers of 100 ms with pauses up to 10 ms: 3 of 20 tries, up to 50 ms: 7 of 20;
# without any pause 0 of 20 (docs/safety.md).
MOST_TRIES, RETRY_AFTER = 4, (0.3, 1.0)


def shrink_wal(context: ActionContext, record: CheckpointRecord, budget: ShrinkingBudget, *, proved_safe: bool) -> None:
    """Make the WAL file empty; `record` tells how far it came, also where an error ends it.

    It ends early with `record.result` busy when readers hold the log. Raises ActionError, apsw.Error.
    """
    for _ in range(MOST_RESTARTS):
        cut_in_slices(context, record, budget.at_once)
        with open_for_restart(context.target.path, budget.wait, budget.at_once) as restart:
            _start_log_over(context, record, restart, budget, proved_safe=proved_safe)
        record.is_emptied = restart.has_cut_file
        if record.is_emptied or record.result[0]:
            return
        _let_writers_in(context, record)


def cut_in_slices(context: ActionContext, record: CheckpointRecord, enough: int) -> None:
    """Cut the end of the file that no frame uses, until `enough` bytes are left. Raises ActionError, apsw.Error."""
    whole = size_or_zero(context.target.wal)
    if whole <= enough:
        return
    try:
        for slice_ in cut_unused_tail(context, enough):
            record.record_slice(slice_)
            context.emit_progress("cut bytes of the WAL file", record.cut.bytes, whole)
        _let_writers_in(context, record)
    except OSError as error:
        raise Failed(
            f"the WAL file cannot be cut: {error.strerror or error}; no frame of it is lost",
            reason="wal_file",
            next_step=f"look at the owner and the mode of {context.target.wal}, then run it again",
        ) from error


def _start_log_over(
    context: ActionContext,
    record: CheckpointRecord,
    restart: RestartConnection,
    budget: ShrinkingBudget,
    *,
    proved_safe: bool,
) -> None:
    """Copy ahead, then TRUNCATE; where readers follow each other without a gap, again at another moment.

    On an owner not proved safe once: a TRUNCATE that readers stop leaves the log copied whole.
    """
    copy_ahead = copy_whole_log if proved_safe else copy_below_pin
    for tries in range(1, MOST_TRIES + 1):
        copy_ahead(context, record, restart)
        context.stop.raise_if_requested()
        _guard_copying(context, budget)
        begun = time.monotonic()
        record.result = run_checkpoint(context, restart.connection, "truncate")
        record.record_hold(time.monotonic() - begun)
        if not record.result[0] or not proved_safe or tries == MOST_TRIES or not _is_starved(context):
            return
        context.stop.wait_for_stop(random.uniform(*RETRY_AFTER))  # noqa: S311 - not for secrets


def _let_writers_in(context: ActionContext, record: CheckpointRecord) -> None:
    """Pause until each writer that waited for the last hold has had a try (actions/sqlite/pacing.py)."""
    context.stop.wait_for_stop(delay_after_hold(record.last_hold))


def _guard_copying(context: ActionContext, budget: ShrinkingBudget) -> None:
    frames, copied, page_size = count_frames(context)
    waiting = (frames - copied) * page_size
    if waiting > budget.copied_bytes:
        raise Refused(
            f"{waiting} bytes could not be copied ahead, and copying them would stop the application for longer than "
            f"{accepted_stall(context):.2f} s",
            reason="stall",
            next_step="prove the owner (owner_sqlite), or run it while the application commits: then most is copied without "
            "stopping it; start it yourself at a quiet time, or accept it in the rule: options: {stall: 2s}",
        )


def _is_starved(context: ActionContext) -> bool:
    """Whether short readers follow each other, so that another moment may be better."""
    with suppress(Refused):
        return find_checkpoint_blocker(context, "").reason == "reset_starved"
    return False
