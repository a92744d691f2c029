"""Has the pinned snapshot copied at the speed of files, by a process without SQLite (actions/backups/copy_process.py)."""

import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actions.backups.copy_process import CopyOrder, encode_order
from actions.backups.snapshot_pin import SnapshotMark, SnapshotPin
from actions.model.context import ActionContext
from actions.model.errors import Failed
from actions.sqlite.wal_budget import check_wal_growth


class FileCopyImpossible(Exception):
    """These files cannot be copied by the copy process; the message says why. The database is not at fault."""


@contextmanager
def start_copy_process() -> Iterator["subprocess.Popen[bytes]"]:
    """Start the copy process, which waits for its order: before the pin, so that the pin does not last while it starts."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "actions.backups.copy_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def copy_snapshot_files(
    context: ActionContext, pin: SnapshotPin, mark: SnapshotMark, process: "subprocess.Popen[bytes]", destination: Path
) -> None:
    """Copy the snapshot into the empty private file `destination`.

    Raises FileCopyImpossible, ActionError, OSError when the disk is full.
    """
    target = context.target
    order = CopyOrder(
        str(target.path), str(target.wal), str(destination), mark.frame, mark.salt, pin.page_size, pin.pages
    )
    _run_copy_order(context, pin, process, order)


def _run_copy_order(
    context: ActionContext, pin: SnapshotPin, process: "subprocess.Popen[bytes]", order: CopyOrder
) -> None:
    assert process.stdin is not None  # noqa: S101 for the type checker: it was started with PIPE
    assert process.stdout is not None  # noqa: S101 for the type checker: it was started with PIPE
    process.stdin.write(encode_order(order))
    process.stdin.flush()
    total = pin.pages * pin.page_size
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        if "ok" in message:
            return
        if "error" in message:
            raise _copy_error(message)
        if "phase" in message:
            context.emit_phase(message["phase"])
            continue
        context.emit_progress("copied bytes", min(message["done"], total), total)
        context.stop.raise_if_requested()
        check_wal_growth(context, pin.wal_before)
    raise Failed("the copy process died", reason="copier_died", next_step="run it again; if it dies again, see the log")


def _copy_error(message: dict[str, Any]) -> Exception:
    if message.get("errno") == errno.ENOENT:
        return FileCopyImpossible(message["error"])  # a file under another name than SQLite's
    if message.get("errno") is not None:
        return OSError(message["errno"], message["error"])
    return FileCopyImpossible(message["error"])
