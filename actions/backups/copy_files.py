"""The pinned snapshot copied at the speed of files, by a process without SQLite (actions/backups/copy_process.py)."""

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
    """These files cannot be copied this way; the message says why. Nothing is wrong with the database."""


@contextmanager
def start_copy_process() -> Iterator["subprocess.Popen[bytes]"]:
    """The copying process, waiting for its orders: started before the pin, so that the pin does not wait for it."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "actions.backups.copy_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def copy_snapshot_files(
    work: ActionContext, pin: SnapshotPin, mark: SnapshotMark, process: "subprocess.Popen[bytes]", destination: Path
) -> None:
    """Copy into the empty private file `destination`. Raises FileCopyImpossible, ActionError, OSError when it is full."""
    target = work.target
    orders = CopyOrder(
        str(target.path), str(target.wal), str(destination), mark.frame, mark.salt, pin.page_size, pin.pages
    )
    _run_copy_order(work, pin, process, orders)


def _run_copy_order(
    work: ActionContext, pin: SnapshotPin, process: "subprocess.Popen[bytes]", orders: CopyOrder
) -> None:
    assert process.stdin is not None  # noqa: S101 for the type checker: PIPE was asked for
    assert process.stdout is not None  # noqa: S101 for the type checker: PIPE was asked for
    process.stdin.write(encode_order(orders))
    process.stdin.flush()
    total = pin.pages * pin.page_size
    for line in process.stdout:
        said: dict[str, Any] = json.loads(line)
        if "ok" in said:
            return
        if "error" in said:
            raise _copy_error(said)
        if "phase" in said:
            work.emit_phase(said["phase"])
            continue
        work.emit_progress("copied bytes", min(said["done"], total), total)
        work.stop.raise_if_requested()
        check_wal_growth(work, pin.wal_before)
    raise Failed("the copying process died", reason="copier_died", next_step="run it again; see the log if it stays so")


def _copy_error(said: dict[str, Any]) -> Exception:
    if said.get("errno") == errno.ENOENT:
        return FileCopyImpossible(said["error"])  # a file under another name than SQLite's
    if said.get("errno") is not None:
        return OSError(said["errno"], said["error"])
    return FileCopyImpossible(said["error"])
