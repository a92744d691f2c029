"""Gives the WAL's space back: starts the log over, cuts its file in slices, and ends with a TRUNCATE that has little to cut.

What waits to be copied is copied beforehand where that blocks no process, so that each hold of the write lock is short.
"""

import time

from actions.maintenance.checkpoint_pragma import run_checkpoint
from actions.maintenance.checkpoint_record import CheckpointRecord
from actions.maintenance.wal_copying import copy_ahead
from actions.maintenance.wal_slices import cut_unused_tail
from actions.model.context import ActionContext
from actions.sqlite.disk_space import size_or_zero
from actions.sqlite.wal_restart import RestartConnection, open_for_restart

# How often the log is started over at most: while the first file is cut, the application's log may grow anew.
MOST_RESTARTS = 6


def shrink_wal(context: ActionContext, record: CheckpointRecord, at_once: int, *, proved_safe: bool) -> None:
    """Make the WAL file empty; `record` tells how far it came, also where an error ends it.

    `at_once`: the bytes that a TRUNCATE itself may cut. It ends early with `record.result` busy when readers hold the log.
    Raises ActionError, apsw.Error.
    """
    wait = context.target.limits.checkpoint_wait
    for _ in range(MOST_RESTARTS):
        _cut_slices(context, record, at_once)
        with open_for_restart(context.target.path, wait, at_once) as restart:
            copy_ahead(context, record, restart, proved_safe=proved_safe)
            context.stop.raise_if_requested()
            _truncate_once(context, record, restart)
        if restart.has_cut_file or record.result[0]:
            return


def _cut_slices(context: ActionContext, record: CheckpointRecord, at_once: int) -> None:
    whole = size_or_zero(context.target.wal)
    if whole <= at_once:
        return
    for slice_ in cut_unused_tail(context, at_once):
        record.record_slice(slice_)
        context.emit_progress("cut bytes of the WAL file", record.cut.bytes, whole)


def _truncate_once(context: ActionContext, record: CheckpointRecord, restart: RestartConnection) -> None:
    begun = time.monotonic()
    record.result = run_checkpoint(context, restart.connection, "truncate")
    record.record_hold(time.monotonic() - begun)
