"""Answers one request of the package `queuekeeper`, whose `child_call` starts it: `python -I -m actions.python_api.child`.

The first line of its input is the request, its output is the answer; both are one JSON object. `error` in the answer is one
sentence for the caller. It ends at once when its input closes: the caller is gone, and a running action stops at its next
safe point.

Each answer imports what it needs: most of the time that a short one takes is the import of modules.
"""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collectors.target import Target

Fields = Mapping[str, Any]


def main() -> int:
    """Answer the request on standard input."""
    request = json.loads(io.FileIO(0, closefd=False).readline())  # unbuffered: the rest is for _exit_with_caller
    threading.Thread(target=_exit_with_caller, daemon=True).start()
    answer = json.dumps(ANSWERS[request["what"]](request)).encode()
    sys.stdout.buffer.write(answer + b"\n")
    sys.stdout.flush()
    return 0


def run_action(request: Fields) -> Fields:
    """Run `action` with `options` as a manual run; its outcome, message, next step and figures."""
    from actions.model.outcome import EXIT_CODES, Outcome
    from actions.model.request import Request
    from actions.runner.manual import run_manually
    from actions.store.database import StoreUnavailable, default_state_directory

    state = default_state_directory() if request["state"] is None else Path(request["state"])
    target = _build_target(request, state)
    job = Request(request["action"], target.name, options=request["options"])
    try:
        run = run_manually(target, state, job)
    except StoreUnavailable as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"no process could be started: {error}"}
    outcome = Outcome(run.outcome or Outcome.INTERRUPTED)
    return {
        "outcome": outcome,
        "success": EXIT_CODES[outcome] == 0,
        "message": run.message,
        "next_step": run.next_step,
        "figures": dict(run.figures),
    }


def read_sizes(request: Fields) -> Fields:
    """The sizes of the database, or `error` (database_sizes.py)."""
    from actions.python_api.database_sizes import read_database_sizes

    return read_database_sizes(_build_target(request))


def list_backups(request: Fields) -> Fields:
    """The backups of the database that have a manifest, newest first.

    path, bytes, snapshot_time (seconds since the epoch), is_safety, is_damaged.
    """
    from collectors.backup_catalog.manifest import belongs_to
    from collectors.backup_catalog.order import order_newest_first
    from collectors.backup_catalog.store import find_backups

    target = _build_target(request)
    return {
        "backups": [
            {
                "path": backup.reference,
                "bytes": backup.size,
                "snapshot_time": backup.manifest.snapshot_time,
                "is_safety": backup.is_safety,
                "is_damaged": backup.state == "failed",
            }
            for backup in order_newest_first(find_backups(target), time.time())
            if backup.manifest is not None and belongs_to(backup.manifest, target)
        ]
    }


ANSWERS: Mapping[str, Callable[[Fields], Fields]] = {
    "run": run_action,
    "stats": read_sizes,
    "backups": list_backups,
}


def _build_target(request: Fields, state: Path | None = None) -> "Target":
    from collectors.target import BackupSettings, Target

    path, directory = Path(request["path"]), request["backup_directory"]
    return Target(
        name=path.stem,
        path=path,
        owner_sqlite=request["owner_sqlite"],
        backup=None if directory is None else BackupSettings(Path(directory), own_folder=False),
        state=state,
    )


def _exit_with_caller() -> None:
    """Wait for the end of the input; ending closes the pipe to a running action, which then stops at its next safe point."""
    while os.read(0, 64):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
