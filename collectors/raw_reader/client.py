"""The parent's side of the raw reader: one child, started when first needed, replaced when it ends or hangs.

A question costs two switches between processes: with a thousand databases, three questions each are most of a poll. So
one exchange answers everything that one poll asks about one database (`SurveyedReader`), or about many ahead.
"""

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from collectors.raw_reader import formats
from collectors.raw_reader.formats import DatabaseHeader, LockRow, WalIndex
from collectors.raw_reader.lock_usage import LockUsage, LockUsageAccounts
from collectors.raw_reader.wal_readers import (
    HeldLock,
    PinningReader,
    flock_holder_pid,
    join_held_locks,
    pinning_readers,
)

ANSWER_WITHIN = 2.0
# Answers about many databases that were prefetched for their polls are used for so many seconds.
AHEAD_FOR = 0.25
# Its processes are recognised by this word in their command lines.
RAW_READER_MODULE = "collectors.raw_reader.server"
_COMMAND = (sys.executable, "-I", "-m", RAW_READER_MODULE)


def sampling_command(every: float, share: float) -> tuple[str, ...]:
    """The command of a raw reader that samples the write locks every so many seconds, for at most this share of a core."""
    return (*_COMMAND, str(every), str(share))


class RawReaderUnavailable(Exception):
    """The raw reader did not answer in time or could not be started; the next question starts a new one."""


class LockTableUnseen(Exception):
    """This system shows no table of locks: it is unknown which process holds one."""


class _ChildEnded(Exception):
    """The child ended. One more try with a new one is safe: every question only reads."""


@dataclass(frozen=True, slots=True)
class _RawReaderChild:
    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]


class RawReader:
    """Asks one child at a time; threads take turns. `close()` ends the child; a later question starts another.

    Every method raises RawReaderUnavailable, and OSError as the file gave it (never for a missing file).
    """

    def __init__(self, command: tuple[str, ...] = _COMMAND, answer_within: float = ANSWER_WITHIN) -> None:
        self._command = command
        self._answer_within = answer_within
        self._turn = threading.Lock()
        self._ahead: dict[Path, tuple[float, dict[str, Any]]] = {}
        self._ahead_at = 0.0
        self._to_release: deque[str] = deque()
        self._child: _RawReaderChild | None = None
        self._started_by = 0
        self.lock_usage = LockUsageAccounts()

    def read_database_header(self, path: Path) -> DatabaseHeader | None:
        """Read the header of a database; None when the file is missing, no regular file or shorter than a header."""
        data = _decode_hex(self.query_reader("database_header", path))
        if data is None or len(data) < formats.DATABASE_HEADER_BYTES:
            return None
        return formats.parse_database_header(data)

    def read_wal_index(self, path: Path) -> WalIndex | None:
        """Read the WAL-index of a database; None when there is none or it could not be read whole."""
        data = _decode_hex(self.query_reader("wal_index", path))
        return None if data is None else formats.parse_wal_index(data)

    def journal_is_hot(self, path: Path) -> bool:
        """Whether a rollback journal with a live header lies beside the database; its writer may be at work."""
        return bool(self.query_reader("journal_is_hot", path))

    def read_lock_table(self) -> tuple[LockRow, ...] | None:
        """Read every file lock that the kernel shows us; None where there is no such table (not Linux)."""
        table = self.query_reader("locks", None)
        return None if table is None else formats.parse_lock_rows(table)

    def find_held_locks(self, path: Path) -> tuple[HeldLock, ...]:
        """Find the locks on the database and its WAL-index. Raises LockTableUnseen where they cannot be seen."""
        answer = self.query_reader("holders", path)
        if answer is None:
            raise LockTableUnseen("this system shows no table of locks (/proc/locks)")
        return join_held_locks(formats.parse_lock_rows(answer["table"]), answer["files"], answer["processes"])

    def find_pinning_readers(self, path: Path) -> tuple[PinningReader, ...]:
        """Find the readers of other processes that stop checkpoints short of the newest frame. Raises LockTableUnseen."""
        index = self.read_wal_index(path)
        if index is None:
            return ()
        return pinning_readers(index, (holder for holder in self.find_held_locks(path) if holder.pid != os.getpid()))

    def find_flock_holder(self, path: Path) -> int | None:
        """Find the process that holds an exclusive `flock` on this file, None when none does. Never tries to take it.

        Raises LockTableUnseen where that cannot be seen. Locks of processes outside our pid namespace are not shown.
        """
        return flock_holder_pid(self.find_held_locks(path))

    def read_file_system_type(self, path: Path) -> str:
        """Read the kernel's name of the file system that the file lies on; empty where it is unknown."""
        return str(self.query_reader("file_system", path))

    def hold_wal(self, path: Path) -> str | None:
        """Keep -wal and -shm of a WAL database from being deleted until `release_wal` (file_hold.py explains how).

        "held"; "refused": a process holds the file exclusively; None: no WAL database, or not possible on this system.
        """
        answer = self.query_reader("hold_wal", path)
        return None if answer is None else str(answer)

    def keep_hold(self, path: Path) -> bool:
        """Let `hold_wal` last until `release_wal` instead of for two seconds; false when it is not held any more."""
        return bool(self.query_reader("keep_hold", path))

    def release_wal(self, path: Path) -> None:
        """End `hold_wal`; without one, nothing happens. Of prefetched databases, all are released with the last."""
        self._to_release.append(os.fspath(path))
        if not self._ahead or time.monotonic() - self._ahead_at > AHEAD_FOR:
            with self._turn:
                self._exchange_with_retry(_encode_request("release", release=self._pop_releases()))

    def survey_database(self, path: Path) -> dict[str, Any]:
        """The answers to what a poll usually asks about a database, by question, each for `unwrap_answer`."""
        answers = self._pop_survey(path)
        if answers is None:
            request = _encode_request("survey", path=os.fspath(path))
            with self._turn:  # another thread's exchange may just have brought them
                answers = self._pop_survey(path) or self._exchange_with_retry(request)["result"]
        return answers

    def prefetch_surveys(self, paths: Sequence[Path]) -> None:
        """Ask about many databases in one exchange, for the polls that begin within AHEAD_FOR seconds.

        For databases that can be read: one that hangs costs the others two seconds.
        """
        with suppress(RawReaderUnavailable), self._turn:  # then each poll asks for itself, and reports the failure
            wanted = [os.fspath(path) for path in paths]
            answer = self._exchange_with_retry(_encode_request("surveys", paths=wanted, release=self._pop_releases()))
            at = self._ahead_at = time.monotonic()
            self._ahead = {path: survey for path, survey in self._ahead.items() if at - survey[0] < AHEAD_FOR}
            self._ahead |= {path: (at, answers) for path, answers in zip(paths, answer["result"], strict=True)}

    def read_lock_usage(self, path: Path) -> LockUsage:
        """How long the write lock was held since the last call for this database; the first call begins to sample it."""
        return self.lock_usage.usage_since_last(path, self.query_reader)

    def is_pinned(self, path: Path) -> bool:
        """Whether the samples saw a reader that pins the WAL; false for a database that is not sampled yet."""
        return self.lock_usage.is_pinned(path, self.query_reader)

    def is_used_elsewhere(self, path: Path) -> bool:
        """Whether the samples saw a process that works on a WAL database by another name; false as for `is_pinned`."""
        return self.lock_usage.is_used_elsewhere(path, self.query_reader)

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._child.process.pid if self._child else None

    def close(self) -> None:
        """End the child."""
        with self._turn:
            self._end_child()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def query_reader(self, what: str, path: Path | None) -> Any:
        """Ask the child one question; its answer as JSON has it. Raises as every method here does."""
        with self._turn:
            answer = self._exchange_with_retry(_encode_request(what, path="" if path is None else os.fspath(path)))
        return self.unwrap_answer(answer, path)

    @staticmethod
    def unwrap_answer(answer: dict[str, Any], path: Path | None) -> Any:
        """The value in an answer. Raises the OSError that the child met."""
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]), os.fspath(path or ""))
        return answer["result"]

    def _pop_releases(self) -> list[str]:
        """Take the paths that are to be released, to send them with a request."""
        return [self._to_release.popleft() for _ in range(len(self._to_release))]

    def _pop_survey(self, path: Path) -> dict[str, Any] | None:
        at, answers = self._ahead.pop(path, (0.0, None))
        return answers if time.monotonic() - at < AHEAD_FOR else None

    def _exchange_with_retry(self, request: bytes) -> Any:
        with suppress(_ChildEnded):
            return self._exchange_once(request)
        try:
            return self._exchange_once(request)
        except _ChildEnded as error:
            raise RawReaderUnavailable(
                f"the raw reader ends at once (is queuekeeper installed for {self._command[0]}?)"
            ) from error

    def _exchange_once(self, request: bytes) -> Any:
        child = self._ensure_child()
        try:
            child.stdin.write(request)
            child.stdin.flush()
            return json.loads(self._read_line(child))
        except (BrokenPipeError, json.JSONDecodeError) as error:
            self._end_child()
            raise _ChildEnded from error

    def _read_line(self, child: _RawReaderChild) -> bytes:
        """Read one line of the child. Kills it and raises RawReaderUnavailable when it takes longer than allowed."""
        deadline = time.monotonic() + self._answer_within
        parts: list[bytes] = []
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not (parts and parts[-1].endswith(b"\n")):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._end_child()
                    raise RawReaderUnavailable(f"the raw reader gave no answer within {self._answer_within:g} s")
                part = os.read(child.stdout.fileno(), 65536)
                if not part:
                    raise BrokenPipeError
                parts.append(part)
        return b"".join(parts)

    def _ensure_child(self) -> _RawReaderChild:
        if self._child is None or self._started_by != os.getpid():
            self._child = self._start_child()
            self._started_by = os.getpid()
        return self._child

    def _start_child(self) -> _RawReaderChild:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Its own session: a Ctrl-C at the terminal is for us, the child ends with its input.
                start_new_session=True,
            )
        except OSError as error:
            raise RawReaderUnavailable(f"the raw reader could not be started: {error}") from error
        if process.stdin is None or process.stdout is None:
            raise RawReaderUnavailable("the raw reader has no pipes")
        return _RawReaderChild(process, process.stdin, process.stdout)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.process.kill()
        for stream in (child.stdin, child.stdout):
            with suppress(BrokenPipeError):  # the unsent rest of a question to a child that is gone
                stream.close()
        child.process.wait()


class SurveyedReader(RawReader):
    """`raw`, for one poll of the database at `path`: the first question brings the answers to all usual ones.

    Each of these answers is used once: the same question again goes to the child, for what is true by then.
    """

    def __init__(self, raw: RawReader, path: Path) -> None:
        self._raw, self._path = raw, path
        self._answers: dict[str, Any] | None = None

    def query_reader(self, what: str, path: Path | None) -> Any:
        """The answer of the survey, or the reader's. Raises as RawReader does."""
        if path != self._path:
            return self._raw.query_reader(what, path)
        if self._answers is None:
            self._answers = self._raw.survey_database(path)
        answer = self._answers.pop(what, None)
        return self._raw.query_reader(what, path) if answer is None else self.unwrap_answer(answer, path)

    def release_wal(self, path: Path) -> None:
        """Release it at the shared reader."""
        self._raw.release_wal(path)

    def read_lock_usage(self, path: Path) -> LockUsage:
        """As the shared reader's, which accounts for all databases."""
        return self._raw.lock_usage.usage_since_last(path, self.query_reader)

    def close(self) -> None:
        """Nothing to close: the shared reader goes on."""


def _encode_request(what: str, **arguments: str | list[str]) -> bytes:
    """Encode one line. A path that is not UTF-8 has surrogates in it, which JSON carries as escapes."""
    return json.dumps({"do": what, **arguments}).encode() + b"\n"


def _decode_hex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
