"""`QueueMaintenance`: checkpoint, vacuum, analyze, check and requeue from Python."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from queuekeeper.child_call import (
    DatabaseReference,
    Options,
    RunAnswer,
    ask_child,
    existing_file,
    path_argument,
    run_action,
)

_MIB = 1024 * 1024
_MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")


class QueueMaintenanceError(Exception):
    """Something could not be done; the message says what happened, why, and the next step."""


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """The three numbers of `PRAGMA wal_checkpoint`: `busy` is 1 when a reader or writer blocked it, then frames.

    `log`: frames in the write-ahead log; `checkpointed`: how many of them are copied back into the database.
    """

    busy: int
    log: int
    checkpointed: int


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """Sizes of the database and of its write-ahead log, in MiB and in bytes; `freelist_count` is the number of free pages."""

    page_count: int
    page_size: int
    total_size_mb: float
    freelist_count: int
    wal_mode: bool
    wal_size_mb: float
    total_size_bytes: int
    wal_size_bytes: int


@dataclass(frozen=True, slots=True)
class OptimizeResult:
    """Whether statistics were gathered and free pages were given back, with the sizes before and after."""

    analyzed: bool
    vacuumed: bool
    stats_before: DatabaseStats
    stats_after: DatabaseStats


class QueueMaintenance:
    """Maintenance of one database beside its application. Safe to call from any thread; each call is a run in the history.

    `owner_sqlite`: the version of the application's SQLite; without it only TRUNCATE checkpoints are made (docs/safety.md).
    `state`: the directory of the history, by default the one of the command line. Every method raises QueueMaintenanceError.
    """

    CHECKPOINT_PASSIVE = "PASSIVE"
    CHECKPOINT_FULL = "FULL"
    CHECKPOINT_RESTART = "RESTART"
    CHECKPOINT_TRUNCATE = "TRUNCATE"

    def __init__(self, path: Path | str, owner_sqlite: str | None = None, state: Path | str | None = None) -> None:
        real = existing_file(path, QueueMaintenanceError)
        history = None if state is None else path_argument(state, QueueMaintenanceError)
        self._database = DatabaseReference(real, history, owner_sqlite)

    def checkpoint(self, mode: str = CHECKPOINT_PASSIVE) -> CheckpointResult:
        """Copy the write-ahead log back into the database. A blocking reader or writer is reported as `busy`, not raised."""
        if str(mode).upper() not in _MODES:
            raise QueueMaintenanceError(f"Invalid checkpoint mode {mode!r}; one of {', '.join(_MODES)}")
        figures = self._run_action("checkpoint", {"mode": mode.lower()}, "blocked").figures
        busy, log, checkpointed = (int(figures[name] or 0) for name in ("busy", "log", "checkpointed"))
        return CheckpointResult(busy, log, checkpointed)

    def vacuum(self) -> None:
        """Give the free pages back to the disk."""
        self._run_action("vacuum", {"free_for": 0.0})

    def analyze(self, table: str | None = None) -> None:
        """Gather the query planner's statistics of one table, or of all tables."""
        self._run_action("analyze", {} if table is None else {"table": table})

    def integrity_check(self) -> list[str]:
        """What is damaged, one sentence each; `["ok"]` when nothing is, as `PRAGMA integrity_check` answers."""
        answer = self._run_action("integrity", {"full": True}, "unverified")
        return str(answer.figures.get("problems") or "ok").split("; ")

    def cleanup_stale_leases(self, timeout_seconds: float = 300) -> int:
        """Requeue the tasks whose lease ran out at least this long ago; returns their number."""
        return int(self._run_action("requeue", {"older_than": timeout_seconds}).figures.get("requeued") or 0)

    def get_database_stats(self) -> DatabaseStats:
        """The sizes now. Reads the database in a child process and changes nothing."""
        return _build_stats(ask_child("stats", self._database, QueueMaintenanceError))

    def optimize(self, full: bool = False) -> OptimizeResult:
        """Gather statistics; with `full` also give free pages back to the disk."""
        before = self.get_database_stats()
        analyzed = self._run_action("analyze", {}).outcome == "done"
        vacuumed = full and self._run_action("vacuum", {"free_for": 0.0}).outcome == "done"
        return OptimizeResult(analyzed, vacuumed, before, self.get_database_stats())

    def _run_action(self, action: str, options: Options, *accepted: str) -> RunAnswer:
        return run_action(self._database, action, options, QueueMaintenanceError, accepted)


def _build_stats(sizes: Mapping[str, int]) -> DatabaseStats:
    pages, page_size, free_pages, wal_bytes = (
        int(sizes[name]) for name in ("pages", "page_size", "free_pages", "wal_bytes")
    )
    total = pages * page_size
    return DatabaseStats(
        page_count=pages,
        page_size=page_size,
        total_size_mb=total / _MIB,
        freelist_count=free_pages,
        wal_mode=bool(sizes["wal"]),
        wal_size_mb=wal_bytes / _MIB,
        total_size_bytes=total,
        wal_size_bytes=wal_bytes,
    )
