"""A watched database, and the budgets that apply to every access to it. Sizes in bytes, times in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long *we* may hold what the application needs, and how much space we may use (docs/safety.md)."""

    write_lock: float = 0.050
    checkpoint_wait: float = 0.125
    read_wal: float = 2.0
    read_rollback: float = 0.050
    wal_growth_bytes: int = 64 * MIB
    wal_growth_ratio: float = 0.25
    disk_reserve: int = 256 * MIB

    def wal_growth(self, database_bytes: int) -> int:
        """The bytes that the WAL may grow because of us: the larger of a size and a share of the database."""
        return max(self.wal_growth_bytes, int(self.wal_growth_ratio * database_bytes))


@dataclass(frozen=True, slots=True)
class RetentionCounts:
    """How many backups of each age class the retention keeps."""

    last: int = 10
    hourly: int = 24
    daily: int = 7
    weekly: int = 4
    monthly: int = 6


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """Where backups are stored. `own_folder`: in DIRECTORY/DATABASE/, as configured; else in DIRECTORY itself (`--to`)."""

    directory: Path
    keep: RetentionCounts = RetentionCounts()
    compress: Literal["none", "zstd"] = "none"
    own_folder: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """One watched database. `owner_sqlite` is the SQLite version of the application by the configuration, else None.

    `settings` are the queue profile's; `slow_interval`: seconds between readings that cost much. `wal`, `shm` and
    `journal` lie beside the database: the write-ahead log, its index, the rollback journal.
    """

    name: str
    path: Path
    profile: str = "auto"
    owner_sqlite: str | None = None
    settings: Mapping[str, float | str] = field(default_factory=dict)
    backup: BackupSettings | None = None
    limits: Limits = Limits()
    slow_interval: float = 3600.0
    state: Path | None = None
    wal: Path = field(init=False, repr=False, compare=False)
    shm: Path = field(init=False, repr=False, compare=False)
    journal: Path = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Build the three paths once: every poll of every database uses them."""
        for name in ("wal", "shm", "journal"):
            object.__setattr__(self, name, self.path.with_name(f"{self.path.name}-{name}"))
