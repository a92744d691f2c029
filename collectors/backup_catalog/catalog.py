"""What a backup is worth, judged by its manifest.

Backups of ours have a manifest beside them. What another tool put there (`cp`, `.backup`, VACUUM INTO) is listed too, as
unverified: its content was never proved, and it is never deleted. Which backup is the newest: order.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from collectors.backup_catalog.manifest import Manifest, ManifestError, ManifestOfOtherFile, belongs_to
from collectors.target import Target

BackupState = Literal["verified", "unverified", "failed"]
BACKUP_STATES: tuple[BackupState, ...] = ("verified", "unverified", "failed")


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup in a store. `manifest` is None without a readable one.

    `reference` is what options, figures and messages call it: a local path, later perhaps an address. `size` is in bytes,
    `modified_time` in seconds since the epoch. `signature` changes when the file or its manifest does.
    """

    name: str
    reference: str
    size: int
    modified_time: float
    state: BackupState
    manifest: Manifest | None
    signature: tuple[int, ...] = ()

    @property
    def is_safety(self) -> bool:
        """Whether it was taken before a restore: it holds what an operator chose to leave behind."""
        return self.manifest is not None and self.manifest.kind == "safety"

    @property
    def is_lossy(self) -> bool:
        """Whether the database had lost most of its content when it was taken (docs/safety.md)."""
        return self.manifest is not None and bool(self.manifest.content_lost)

    @property
    def damage(self) -> str:
        """What is wrong with a failed one, in words; empty for any other."""
        if self.state != "failed":
            return ""
        if self.manifest is None:
            return "its manifest cannot be read"
        if self.manifest.damaged_time is not None:
            return self.manifest.damage or "it was proved damaged"
        return f"it has {self.size} bytes, its manifest says {self.manifest.bytes}"

    @property
    def snapshot_time(self) -> float:
        """The time of its snapshot; without a manifest the time of the file's last change."""
        return self.modified_time if self.manifest is None else self.manifest.snapshot_time


@dataclass(frozen=True, slots=True)
class CatalogListing:
    """The backups of one database by reference. `cursor` lets the store skip what did not change since this listing."""

    backups: Mapping[str, Backup] = field(default_factory=dict)
    cursor: object = field(default=None, compare=False)


def assess_backup(read: Callable[[], Manifest], size: int, target: Target) -> tuple[BackupState, Manifest | None]:
    """Judge a stored file of `size` bytes by the manifest that `read` returns.

    A manifest that cannot be read at the moment (EIO, EACCES) shows neither damage nor health.
    """
    try:
        manifest = read()
    except (OSError, ManifestOfOtherFile):
        return "unverified", None
    except ManifestError:
        return "failed", None
    if not belongs_to(manifest, target):
        return "unverified", manifest
    if manifest.bytes != size or manifest.damaged_time is not None:
        return "failed", manifest
    return ("unverified" if manifest.verified_time is None else "verified"), manifest
