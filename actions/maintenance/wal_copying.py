"""Copies the WAL into the database ahead of a TRUNCATE, where that blocks no process."""

import time

from actions.maintenance.checkpoint_pragma import count_frames, run_checkpoint
from actions.maintenance.checkpoint_record import CheckpointRecord
from actions.model.context import ActionContext
from actions.sqlite.connection import open_writable
from actions.sqlite.pacing import PLANNED_SHARE
from actions.sqlite.wal_restart import RestartConnection

# A TRUNCATE follows where at most so many frames wait, and after so many rounds in any case: beside a writer some always do.
FEW_FRAMES, MOST_ROUNDS = 100, 5


def copy_passively(context: ActionContext, record: CheckpointRecord) -> None:
    """One passive checkpoint. Raises ActionError, apsw.Error."""
    _, before, page_size = count_frames(context)
    with open_writable(context.target.path, 0.0) as connection:
        begun = time.monotonic()
        record.result = run_checkpoint(context, connection, "passive")
    record.record_copy(max(0, record.result[2] - before) * page_size, time.monotonic() - begun)


def copy_ahead(
    context: ActionContext, record: CheckpointRecord, restart: RestartConnection, *, proved_safe: bool
) -> None:
    """Copy passively, and sync, until little is left to do under the write lock. Raises ActionError, apsw.Error."""
    for _ in range(MOST_ROUNDS):
        frames, copied, _ = count_frames(context)
        is_much = proved_safe and frames - copied > FEW_FRAMES
        if is_much:
            copy_passively(context, record)
        if restart.sync_database() <= PLANNED_SHARE * context.target.limits.write_lock and not is_much:
            return
        context.stop.raise_if_requested()
