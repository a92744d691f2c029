"""Runs one checkpoint on a connection, and waits for another process's checkpoint to end first."""

import time

import apsw

from actions.model.context import ActionContext
from collectors.access.connection import open_read_only

# How long to wait for another process's checkpoint, in seconds; that wait blocks no process. SQLite itself does not wait:
# https://sqlite.org/c3ref/wal_checkpoint_v2.html ("the busy handler is not invoked").
OTHER_CHECKPOINT_WAIT, OTHER_CHECKPOINT_POLL = 2.0, 0.002
# The pragma's row while another checkpoint runs.
OTHER_CHECKPOINT_RUNNING = (1, -1, -1)


def run_checkpoint(context: ActionContext, connection: apsw.Connection, mode: str) -> tuple[int, int, int]:
    """Run one checkpoint; a busy application checkpoints at each commit, so wait until its checkpoint has ended.

    Raises ActionError, apsw.Error.
    """
    deadline = time.monotonic() + OTHER_CHECKPOINT_WAIT
    while (result := run_pragma(connection, mode.upper())) == OTHER_CHECKPOINT_RUNNING and time.monotonic() < deadline:
        context.stop.wait_for_stop(OTHER_CHECKPOINT_POLL)
        context.stop.raise_if_requested()
    return result


def count_frames(context: ActionContext) -> tuple[int, int, int]:
    """Count the frames in the log and those copied, with the bytes of a page. NOOP has no side effects. Raises apsw.Error."""
    with open_read_only(context.target.path) as connection:
        _, frames, copied = run_pragma(connection, "NOOP")
        return max(0, frames), max(0, copied), int(connection.pragma("page_size"))


def run_pragma(connection: apsw.Connection, mode: str) -> tuple[int, int, int]:
    """Run the pragma; its row: busy, frames in the log, frames copied. `mode` is one of ours, never the caller's text.

    NOOP counts only; it needs SQLite 3.51 (docs/safety.md). A busy row has -1 where SQLite could not count. Raises apsw.Error.
    """
    busy, frames, copied = (
        int(str(value)) for value in connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()[0]
    )
    return busy, frames, copied
