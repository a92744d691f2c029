"""The checked configuration: absolute paths, sizes in bytes, times in seconds."""

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
    """One entry of `databases`: an absolute path or glob; `exporter.config.resolve` builds Targets of it."""

    path: str
    name: str | None = None
    profile: str = "auto"
    owner_sqlite: str | None = None
    settings: Mapping[str, float | str] = field(default_factory=dict)
    backup: BackupSettings | None = None

    @property
    def is_glob(self) -> bool:
        """Whether the path is a glob, which may match several files."""
        return any(letter in self.path for letter in "*?[")


@dataclass(frozen=True, slots=True)
class ActingSettings:
    """Whether actions may run, for which callers, and within which bounds. `token_digests`: SHA-256 of the tokens;
    `token_names`: by digest, the name of the file that it is in.

    `users` are names of the web configuration file, `client_sans` names in client certificates. `windows`: by action, when
    automatic runs may start. `fresh_backup`: how old (seconds) the newest verified backup may be before an automatic run
    of a destructive action.
    """

    enabled: bool = False
    token_files: tuple[Path, ...] = ()
    token_digests: tuple[bytes, ...] = field(default=(), repr=False)
    token_names: Mapping[bytes, str] = field(default_factory=dict, repr=False)
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
        """Whether any caller may start an action over HTTP."""
        return bool(self.token_digests or self.users or self.client_sans)


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of the agent. `warnings` are sentences, each with its place; intervals are seconds.

    `timezone` is the default of schedules and windows.
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
