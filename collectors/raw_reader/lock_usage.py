"""How long the write lock of each database was held, and by which processes: the side that receives the samples."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

QueryReader = Callable[[str, Path | None], Any]
# One answer serves all databases that are polled about now.
SHARED_FOR = 0.25
# The child forgets what is not requested again; so do we.
NAME_AGAIN, FORGET_AFTER = 1800.0, 7200.0


@dataclass(frozen=True, slots=True)
class WriteLockHolder:
    """A process that held the write lock in `samples` samples; `longest`: seconds over which every sample saw it."""

    pid: int
    samples: int
    longest: float
    command: str
    command_line: str


@dataclass(frozen=True, slots=True)
class LockUsage:
    """Samples since the last question. `holders`: the process that held it in most samples comes first.

    `seen` is false where locks, or the application's processes, cannot be seen: then nothing is known.
    """

    samples: int = 0
    busy: int = 0
    holders: tuple[WriteLockHolder, ...] = ()
    seen: bool = True

    @property
    def busy_ratio(self) -> float | None:
        """The share of the samples in which a process held it; None when nothing is known."""
        return min(1.0, self.busy / self.samples) if self.seen and self.samples else None


@dataclass(slots=True)
class _UsageAccount:
    """The samples of one database that were received and not read yet."""

    since_tick: int
    named_at: float
    asked_at: float
    busy: int = 0
    holders: dict[int, WriteLockHolder] = field(default_factory=dict)


class LockUsageAccounts:
    """Keeps an account for each database from the shared answers. Thread-safe; `ask` is `RawReader.query_reader`."""

    def __init__(self, shared_for: float = SHARED_FOR) -> None:
        self._shared_for = shared_for
        self._turn = threading.Lock()
        self._accounts: dict[Path, _UsageAccount] = {}
        self._epoch = ""
        self._ticks = 0
        self._seen = True
        self._hidden: frozenset[str] = frozenset()
        self._pinned: frozenset[str] = frozenset()
        self._elsewhere: frozenset[str] = frozenset()
        self._fetched_at = float("-inf")

    def usage_since_last(self, path: Path, ask: QueryReader) -> LockUsage:
        """The samples of this database since the last call for it; none at the first, which begins to watch it.

        Raises as a RawReader does.
        """
        now = time.monotonic()
        with self._turn:
            self._fetch_samples(now, ask)
            account = self._accounts.get(path)
            if account is None:
                self._accounts[path] = _UsageAccount(ask("watch_write_lock", path), now, now)
                return LockUsage()
            if now - account.named_at > NAME_AGAIN:
                account.named_at = now
                ask("watch_write_lock", path)
            self._accounts[path] = _UsageAccount(max(account.since_tick, self._ticks), account.named_at, now)
            return self._usage_of_account(path, account)

    def is_pinned(self, path: Path, ask: QueryReader) -> bool:
        """Whether a reader pinned the WAL of this database at the last two refreshes. Raises as a RawReader does."""
        with self._turn:
            if path in self._accounts:
                self._fetch_samples(time.monotonic(), ask)
            return str(path) in self._pinned

    def is_used_elsewhere(self, path: Path, ask: QueryReader) -> bool:
        """Whether a process worked on this database by another name at the last two refreshes. Raises as a RawReader does."""
        with self._turn:
            if path in self._accounts:
                self._fetch_samples(time.monotonic(), ask)
            return str(path) in self._elsewhere

    def _usage_of_account(self, path: Path, account: _UsageAccount) -> LockUsage:
        holders = sorted(account.holders.values(), key=lambda holder: (-holder.samples, -holder.longest))
        seen = self._seen and (account.busy > 0 or str(path) not in self._hidden)
        return LockUsage(max(0, self._ticks - account.since_tick), account.busy, tuple(holders), seen)

    def _fetch_samples(self, now: float, ask: QueryReader) -> None:
        if now - self._fetched_at <= self._shared_for:
            return
        answer = ask("write_lock_uses", None)
        if answer["epoch"] != self._epoch:  # another child: it watches nothing yet
            self._accounts, self._epoch = {}, answer["epoch"]
        self._accounts = {path: a for path, a in self._accounts.items() if now - a.asked_at < FORGET_AFTER}
        self._ticks, self._seen = answer["ticks"], answer["table"]
        self._hidden, self._pinned = frozenset(answer["hidden"]), frozenset(answer["pinned"])
        self._elsewhere = frozenset(answer["elsewhere"])
        for path, use in answer["uses"].items():
            if (account := self._accounts.get(Path(path))) is not None:
                _add_samples(account, use)
        self._fetched_at = now


def _add_samples(account: _UsageAccount, use: dict[str, Any]) -> None:
    account.busy += use["busy"]
    for pid, samples, longest, command, line in use["holders"]:
        known = account.holders.get(pid)
        before, longest_before = (known.samples, known.longest) if known else (0, 0.0)
        account.holders[pid] = WriteLockHolder(pid, before + samples, max(longest_before, longest), command, line)
