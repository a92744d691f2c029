"""The configuration after both stages: paths resolved, bytes and seconds. Nothing checks it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from pathlib import Path

from actions.policy.rules import Rule
from actions.policy.schedules import Schedule
from actions.policy.windows import Window
from collectors.target import BackupSettings, Limits


@dataclass(frozen=True, slots=True)
class DatabaseSpec:
    """One entry of `databases`: an absolute path, or a glob of them (`exporter.config.resolve` makes Targets)."""

    path: str
    name: str | None = None
    profile: str = "auto"
    owner_sqlite: str | None = None
    settings: Mapping[str, float | str] = field(default_factory=dict)
    backup: BackupSettings | None = None

    @property
    def is_glob(self) -> bool:
        """Whether it can stand for several files."""
        return any(letter in self.path for letter in "*?[")


@dataclass(frozen=True, slots=True)
class ActingSettings:
    """The right to act and its bounds. `token_digests` are SHA-256 of the tokens: a token itself is never kept.

    `users` are names of the web configuration file, `client_sans` names in client certificates. `windows` by action: when
    it may run by itself. `fresh_backup`: how old the newest verified backup may be, in seconds, before an automatic run
    that destroys something.
    """

    enabled: bool = False
    token_files: tuple[Path, ...] = ()
    token_digests: tuple[bytes, ...] = field(default=(), repr=False)
    users: frozenset[str] = frozenset()
    client_sans: frozenset[str] = frozenset()
    short: int = 4
    long: int = 1
    quota_per_hour: int = 12
    fresh_backup: float = 86400.0
    windows: Mapping[str, Window] = field(default_factory=dict)
    checkpoint_vulnerable_owner: bool = False

    @property
    def has_allowed_callers(self) -> bool:
        """Whether anybody may ask for an action over HTTP."""
        return bool(self.token_digests or self.users or self.client_sans)


@dataclass(frozen=True, slots=True)
class Config:
    """What `serve` runs on. `warnings` are sentences for a person, each with its place; intervals are seconds.

    `timezone` is that of schedules and windows where they name none.
    """

    source: Path
    databases: tuple[DatabaseSpec, ...]
    identity: str | None = None
    interval: float = 15.0
    slow_interval: float = 3600.0
    rescan: float = 60.0
    limits: Limits = field(default_factory=Limits)
    acting: ActingSettings = field(default_factory=ActingSettings)
    rules: tuple[Rule, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    timezone: tzinfo = UTC
    state: Path = Path("/var/lib/queuekeeper")
    warnings: tuple[str, ...] = ()
