"""`QueueMaintenance`: maintenance from Python, by the original queue utilities' names, over the same door as everything."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from actions.model.outcome import Outcome
from actions.model.request import Option
from actions.python_api.door_call import call
from actions.store.database import default_state_directory
from actions.store.runs import Run
from collectors.target import Target

MIB = 1024 * 1024
MODES = ("PASSIVE", "FULL", "RESTART", "TRUNCATE")


class QueueMaintenanceError(Exception):
    """Something that could not be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """As `PRAGMA wal_checkpoint` answers: `busy` 1 when somebody was in the way, frames in the `log`, frames `checkpointed`."""

    busy: int
    log: int
    checkpointed: int


@dataclass(frozen=True, slots=True)
class DatabaseStats:
    """Sizes of the database and of its write-ahead log, in MiB for people and in bytes; `freelist_count` pages hold nothing."""

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
    """What was done: statistics gathered, space given back; and the sizes around it."""

    analyzed: bool
    vacuumed: bool
    stats_before: DatabaseStats
    stats_after: DatabaseStats


class QueueMaintenance:
    """Maintenance of one database beside its application. Safe from any thread; each call is a run in history.

    `owner_sqlite`: the version of the application's SQLite; without it only TRUNCATE checkpoints are made
    (docs/safety.md). Every method raises QueueMaintenanceError.
    """

    CHECKPOINT_PASSIVE = "PASSIVE"
    CHECKPOINT_FULL = "FULL"
    CHECKPOINT_RESTART = "RESTART"
    CHECKPOINT_TRUNCATE = "TRUNCATE"

    def __init__(self, path: Path | str, owner_sqlite: str | None = None, state: Path | None = None) -> None:
        real = Path(path).resolve()
        if not real.exists():
            raise QueueMaintenanceError(f"{path} not found")
        self._target = Target(
            name=real.stem, path=real, owner_sqlite=owner_sqlite, state=state or default_state_directory()
        )

    def checkpoint(self, mode: str = CHECKPOINT_PASSIVE) -> CheckpointResult:
        """Copy the write-ahead log back into the database. A reader or writer in the way is no error but `busy`."""
        if mode.upper() not in MODES:
            raise QueueMaintenanceError(f"Invalid checkpoint mode {mode!r}; one of {', '.join(MODES)}")
        ended = self._do("checkpoint", {"mode": mode.lower()}, Outcome.BLOCKED)
        busy, log, checkpointed = (int(ended.figures[name] or 0) for name in ("busy", "log", "checkpointed"))
        return CheckpointResult(busy, log, checkpointed)

    def vacuum(self) -> None:
        """Give the free pages back to the disk."""
        self._do("vacuum", {"free_for": 0.0})

    def analyze(self, table: str | None = None) -> None:
        """Gather the query planner's statistics, of one table or of all."""
        self._do("analyze", {} if table is None else {"table": table})

    def integrity_check(self) -> list[str]:
        """What is wrong, one sentence each; `["ok"]` when nothing is, as SQLite's own integrity_check says it."""
        ended = self._do("integrity", {"full": True}, Outcome.UNVERIFIED)
        return str(ended.figures.get("problems") or "ok").split("; ")

    def cleanup_stale_leases(self, timeout_seconds: float = 300) -> int:
        """Give tasks back whose lease ran out at least so long ago; how many."""
        return int(self._do("requeue", {"older_than": timeout_seconds}).figures.get("requeued") or 0)

    def get_database_stats(self) -> DatabaseStats:
        """The sizes now."""
        return _stats(_read(self._target.path))

    def optimize(self, full: bool = False) -> OptimizeResult:
        """Gather statistics; `full`: give free pages back too."""
        before = self.get_database_stats()
        analyzed = self._do("analyze", {}).outcome == Outcome.DONE
        vacuumed = full and self._do("vacuum", {"free_for": 0.0}).outcome == Outcome.DONE
        return OptimizeResult(analyzed, vacuumed, before, self.get_database_stats())

    def _do(self, action: str, options: Mapping[str, Option], *also: Outcome) -> Run:
        return call(self._target, action, options, QueueMaintenanceError, also)


def _read(path: Path) -> Mapping[str, int | str]:
    """What the reading process says. Raises QueueMaintenanceError."""
    command = [sys.executable, "-I", "-m", "actions.python_api.stats_process", str(path)]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)  # noqa: S603 - our own module
    if ran.returncode != 0:
        lines = ran.stderr.decode(errors="replace").strip().splitlines()
        raise QueueMaintenanceError(f"{path} could not be read: {lines[-1] if lines else 'its reader ended early'}")
    found: Mapping[str, int | str] = json.loads(ran.stdout)
    if "trouble" in found:
        raise QueueMaintenanceError(str(found["trouble"]))
    return found


def _stats(found: Mapping[str, int | str]) -> DatabaseStats:
    pages, page_size, free, wal = (int(found[name]) for name in ("pages", "page_size", "free_pages", "wal_bytes"))
    total = pages * page_size
    return DatabaseStats(pages, page_size, total / MIB, free, bool(found["wal"]), wal / MIB, total, wal)
