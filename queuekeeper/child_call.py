"""Sends one request to a child process and returns its answer: JSON in, JSON out, standard library only.

The child is started with `python -I`: it finds queuekeeper's own packages where they are installed, never a file
`actions.py` in the caller's folder. The child opens the database, the caller's process never does: closing a second
connection there would drop the POSIX locks of the caller's first one (docs/safety.md).
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Options = Mapping[str, str | int | float | bool | None]

_CHILD = "actions.python_api.child"
# Threads of one process wait for each other; another process meets the action lock and gets the outcome `locked`.
_path_locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
_path_locks_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class DatabaseReference:
    """The database that a request is about. `state`: the directory of the history; None means the default one."""

    path: Path
    state: Path | None = None
    owner_sqlite: str | None = None
    backup_directory: Path | None = None

    def as_fields(self) -> dict[str, str | None]:
        """The fields for a request, with paths as texts."""
        return {
            "path": str(self.path),
            "state": None if self.state is None else str(self.state),
            "owner_sqlite": self.owner_sqlite,
            "backup_directory": None if self.backup_directory is None else str(self.backup_directory),
        }


@dataclass(frozen=True, slots=True)
class RunAnswer:
    """How a run ended: its outcome, and its figures in bytes, seconds and rows."""

    outcome: str
    figures: Mapping[str, Any]


def run_action(
    database: DatabaseReference,
    action: str,
    options: Options,
    error: type[Exception],
    accepted: Collection[str] = (),
) -> RunAnswer:
    """Run the action once. Raises `error` with one sentence when the outcome is neither a success nor `accepted`."""
    _require_utf8((*database.as_fields().values(), *options.values()), error)
    with _path_locks_guard:
        lock = _path_locks[database.path]
    with lock:
        answer = ask_child("run", database, error, action=action, options=options)
    outcome, message, next_step = str(answer["outcome"]), str(answer["message"]), str(answer["next_step"])
    if not answer["success"] and outcome not in accepted:
        raise error(f"{message} ({next_step})" if next_step else message)
    return RunAnswer(outcome, answer["figures"])


def ask_child(what: str, database: DatabaseReference, error: type[Exception], **fields: object) -> dict[str, Any]:
    """The child's answer to one request. Raises `error` with one sentence when it cannot be given."""
    try:
        request = json.dumps({"what": what, **database.as_fields(), **fields}, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as trouble:
        wrong = f"an argument cannot be used ({trouble}): give a text, a finite number, True, False or None"
        raise error(f"{database.path}: {wrong}; nothing was done") from trouble
    try:
        output, last_line = _exchange_messages(request.encode() + b"\n")
    except OSError as trouble:
        raise error(f"no process could be started: {trouble}; nothing was done") from trouble
    if not output:
        raise error(f"{database.path}: the process that does the work ended early: {last_line or 'it gave no reason'}")
    answer: dict[str, Any] = json.loads(output)
    if "error" in answer:
        raise error(str(answer["error"]))
    return answer


def path_argument(value: object, error: type[Exception]) -> Path:
    """The path that a caller gave, absolute. Raises `error` with one sentence when it is none."""
    try:
        path = Path(value).absolute()  # type: ignore[arg-type] # what is no path is what is looked for
        os.fsencode(path)
    except (TypeError, ValueError) as trouble:
        raise error(f"{value!a} is no path: {trouble}; give a text or a Path") from trouble
    if "\0" in str(path):
        raise error(f"{value!a} is no path: it has a null character in it")
    return path


def existing_file(value: object, error: type[Exception]) -> Path:
    """The file that a caller named, with symbolic links resolved. Raises `error` with one sentence when it is not there."""
    path = path_argument(value, error)
    try:
        real = path.resolve()
        real.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{value} not found") from None
    except (OSError, RuntimeError) as trouble:  # RuntimeError: symbolic links that lead to each other
        raise error(f"{value} cannot be used: {getattr(trouble, 'strerror', None) or trouble}") from trouble
    return real


def _require_utf8(values: Iterable[object], error: type[Exception]) -> None:
    """Raise `error` for a text that the history cannot store, before anything is recorded."""
    for value in values:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise error(
                f"{value!a} is not UTF-8, and the history of runs stores only that: rename it; nothing was done"
            ) from None


def _exchange_messages(request: bytes) -> tuple[bytes, str]:
    """The child's output, and the last line of its error output. When the caller is interrupted, the child stops too."""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-I", "-m", _CHILD],
            stdin=subprocess.PIPE,  # stays open until the answer: its end tells the child that the caller is gone
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            start_new_session=True,  # a Ctrl-C at the terminal is for the caller
        ) as process:
            assert process.stdin is not None  # noqa: S101 - for the type checker: it is a pipe
            assert process.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
            with suppress(BrokenPipeError):  # it ended before it could read; its error output says why
                process.stdin.write(request)
            output = process.stdout.read()
        errors.seek(0)
        lines = errors.read().decode(errors="replace").strip().splitlines()
    return output, lines[-1] if lines else ""
