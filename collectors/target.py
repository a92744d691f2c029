"""What is watched: one database, and the budgets that hold while we touch it. Sizes in bytes, times in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long *we* hold what the application needs, and how much room we take (docs/safety.md)."""

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
    """How many backups of each age class stay."""

    last: int = 10
    hourly: int = 24
    daily: int = 7
    weekly: int = 4
    monthly: int = 6


@dataclass(frozen=True, slots=True)
class BackupSettings:
    """Where backups go. `own_folder`: DIRECTORY/DATABASE/ when configured, else DIRECTORY itself (a command line's)."""

    directory: Path
    keep: RetentionCounts = RetentionCounts()
    compress: Literal["none", "zstd"] = "none"
    own_folder: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """One watched database. `owner_sqlite` is the operator's word on the application's SQLite version, else None.

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
        """Made once: they are looked at at every poll of every database."""
        for name in ("wal", "shm", "journal"):
            object.__setattr__(self, name, self.path.with_name(f"{self.path.name}-{name}"))
