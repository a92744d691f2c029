"""Copies the WAL into the database ahead of a TRUNCATE, where that blocks no process.

An owner that may have the WAL-reset bug must never see a log that is copied whole and was not started over (docs/safety.md). So
there a reader of ours pins the log below its newest frame while it is copied: no checkpoint, ours or the application's,
can pass it. What lies beyond is copied by the TRUNCATE, which starts the log over in the same hold of the write lock.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from actions.maintenance.checkpoint_pragma import count_frames, run_checkpoint
from actions.maintenance.checkpoint_record import CheckpointRecord
from actions.maintenance.checkpoint_stall import known_rates
from actions.model.context import ActionContext
from actions.sqlite.connection import open_writable
from actions.sqlite.pacing import PLANNED_SHARE
from actions.sqlite.wal_restart import RestartConnection
from collectors.access.connection import open_read_only

# A TRUNCATE follows where at most so many frames wait, and after so many rounds in any case: beside a writer some always do.
FEW_FRAMES, MOST_ROUNDS = 100, 5
# How long to wait for the commit that makes our pin lie below the newest frame, and between two looks, in seconds: it
# blocks no process. A small log is not worth a long wait: at most so many times the copying that it saves under the lock.
COMMIT_PATIENCE, COMMIT_POLL = 5.0, 0.005
PATIENCE_PER_SAVED_SECOND = 20
# How long a plan looks for a commit, in seconds.
COMMIT_LOOK = 0.5


def copy_passively(context: ActionContext, record: CheckpointRecord) -> None:
    """One passive checkpoint. Raises ActionError, apsw.Error."""
    _, before, page_size = count_frames(context)
    with open_writable(context.target.path, 0.0) as connection:
        begun = time.monotonic()
        record.result = run_checkpoint(context, connection, "passive")
    record.record_copy(max(0, record.result[2] - before) * page_size, time.monotonic() - begun)


def copy_whole_log(context: ActionContext, record: CheckpointRecord, restart: RestartConnection) -> None:
    """Copy passively, and sync, until little is left to do under the write lock. Raises ActionError, apsw.Error."""
    for _ in range(MOST_ROUNDS):
        is_much = _has_many_pending(context)
        if is_much:
            copy_passively(context, record)
        if _sync_is_short(context, restart) and not is_much:
            return
        context.stop.raise_if_requested()


def copy_below_pin(context: ActionContext, record: CheckpointRecord, restart: RestartConnection) -> None:
    """The same on an owner not proved safe: the log is never copied whole while a pin of ours lasts.

    The next pin begins before the last one ends. Nothing is copied where the application does not commit meanwhile.
    Raises ActionError, apsw.Error.
    """
    with ExitStack() as last_pin:
        for _ in range(MOST_ROUNDS):
            is_much = _has_many_pending(context)
            if is_much:
                pin = ExitStack()
                with pin:
                    pin.enter_context(_pin_log(context))
                    if not _wait_for_commit(context, _commit_patience(context)):
                        return
                    last_pin.close()
                    last_pin.push(pin.pop_all())
                copy_passively(context, record)
            if _sync_is_short(context, restart) and not is_much:
                return
            context.stop.raise_if_requested()


def is_written_now(context: ActionContext) -> bool:
    """Whether the application commits within the next half second. Raises ActionError, apsw.Error."""
    return _wait_for_commit(context, COMMIT_LOOK)


def _has_many_pending(context: ActionContext) -> bool:
    frames, copied, _ = count_frames(context)
    return frames - copied > FEW_FRAMES


def _sync_is_short(context: ActionContext, restart: RestartConnection) -> bool:
    """Sync the files; whether one under the write lock would be short now."""
    return restart.sync_files() <= PLANNED_SHARE * context.target.limits.write_lock


@contextmanager
def _pin_log(context: ActionContext) -> Iterator[None]:
    """Hold a read transaction. On a log that is copied whole it pins nothing, but then no checkpoint copies (slot 0)."""
    with open_read_only(context.target.path) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        yield


def _commit_patience(context: ActionContext) -> float:
    frames, copied, page_size = count_frames(context)
    saved = (frames - copied) * page_size / known_rates(context).copying
    return min(COMMIT_PATIENCE, PATIENCE_PER_SAVED_SECOND * saved)


def _wait_for_commit(context: ActionContext, patience: float) -> bool:
    """Wait until there is a frame beyond a pin that was taken before; whether one came. Raises ActionError, apsw.Error."""
    pinned, _, _ = count_frames(context)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if count_frames(context)[0] > pinned:
            return True
        context.stop.wait_for_stop(COMMIT_POLL)
        context.stop.raise_if_requested()
    return False
