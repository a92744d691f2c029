"""Puts back what a restored file was beside its rows: its journal mode, its owner, group and mode; says what could not be.

The manifest says what the source had. One of an earlier version does not: then the file that is replaced tells, else it is
said as unknown. WAL is set in the private copy, before it gets its name, so that nothing is left beside it.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import apsw

from actions.backups.file_settings import read_header_fields, read_journal_mode
from actions.backups.page_checksum import renew_checksums
from actions.backups.store import SelectedBackup
from actions.model.context import ActionContext
from actions.model.io_errors import describe_io_error
from collectors.access.connection import open_immutable
from collectors.backup_catalog.partial_names import SIDECAR_SUFFIXES


@dataclass(frozen=True, slots=True)
class WantedSettings:
    """What the restored file shall be; None where nothing is known. `origin`: what said so, in words.

    `owner` and `group` are numbers, `mode` the permission bits.
    """

    journal_mode: str | None
    owner: int | None
    group: int | None
    mode: int | None
    origin: str


@dataclass(frozen=True, slots=True)
class SettingsResult:
    """What the restored file has, and what it could not get, each in words."""

    kept: tuple[str, ...]
    not_kept: tuple[str, ...]

    def as_figures(self) -> dict[str, str]:
        """The figures of a run; `not_kept` only where there is something."""
        figures = {"settings": "; ".join(self.kept)}
        return {**figures, "not_kept": "; ".join(self.not_kept)} if self.not_kept else figures


def wanted_settings(context: ActionContext, backup: SelectedBackup, *, replaces: bool) -> WantedSettings:
    """By the manifest; where it lacks them by the file that is replaced, or the database that the backup is of."""
    manifest, target = backup.manifest, context.target.path
    if manifest.journal_mode is not None:
        return WantedSettings(
            manifest.journal_mode,
            manifest.file_owner,
            manifest.file_group,
            _permissions(manifest.file_mode),
            "manifest",
        )
    journal_mode = read_journal_mode(context)
    with suppress(FileNotFoundError):
        status = target.stat()
        return WantedSettings(
            journal_mode, status.st_uid, status.st_gid, _permissions(status.st_mode), f"{target} as it is"
        )
    folder = target.parent.stat() if replaces else None
    owner, group = (None, None) if folder is None else (folder.st_uid, folder.st_gid)
    return WantedSettings(journal_mode, owner, group, None, f"what is left of {target}")


def put_back_settings(copy: Path, wanted: WantedSettings) -> SettingsResult:
    """Give the private file what is wanted, and say what it has then. Raises apsw.FullError, OSError of a missing file."""
    problems = list(_set_journal_mode(copy, wanted))
    renew_checksums(copy, {1})  # the journal mode is in the header
    with open_immutable(copy) as content:
        header = read_header_fields(content)
        mode = content.pragma("journal_mode")
    problems += _set_ownership(copy, wanted)
    status = copy.stat()
    kept = (
        f"journal mode {'wal' if _is_wal_file(copy) else mode}",
        *header.in_words(),
        f"owner {status.st_uid}",
        f"group {status.st_gid}",
        f"mode {status.st_mode & 0o777:04o}",
    )
    return SettingsResult(kept, tuple(problems))


def _set_journal_mode(copy: Path, wanted: WantedSettings) -> Iterator[str]:
    if wanted.journal_mode is None:
        yield "journal mode (unknown: the backup does not record it; set PRAGMA journal_mode=WAL if the application needs it)"
    if wanted.journal_mode != "wal":
        return
    problem = _switch_to_wal(copy)
    if problem:
        _switch_to_rollback(copy)
        yield f"journal mode wal ({problem})"


def _switch_to_wal(copy: Path) -> str:
    """Set WAL and read as an application would, so that a file system without shared memory shows; why not, else empty."""
    try:
        mode = _query_value(copy, "PRAGMA journal_mode=WAL")
        if mode != "wal":
            return f"SQLite answers {mode}"
        _query_value(copy, "SELECT count(*) FROM sqlite_schema")
    except apsw.FullError:
        raise
    except apsw.Error as error:
        return f"this file system cannot keep one: {error}"
    beside = [suffix for suffix in SIDECAR_SUFFIXES if copy.with_name(copy.name + suffix).exists()]
    return f"{', '.join(beside)} would stay beside it" if beside else ""


def _query_value(copy: Path, sql: str) -> str:
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        return str(connection.execute(sql).get)
    finally:
        connection.close()


def _switch_to_rollback(copy: Path) -> None:
    """Make it a single file again, without shared memory."""
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
        connection.execute("PRAGMA journal_mode=MEMORY").fetchall()
    finally:
        connection.close()


def _is_wal_file(copy: Path) -> bool:
    """By the header of our own private file; an immutable connection does not say it."""
    with copy.open("rb") as file:
        return file.read(20)[18:] == b"\x02\x02"


def _set_ownership(copy: Path, wanted: WantedSettings) -> Iterator[str]:
    """Set owner, group and mode, in this order; what the file system did not take shows in its stat afterwards."""
    reason = _try_chown(copy, wanted.owner, wanted.group)
    if wanted.mode is not None:
        with suppress(OSError):
            copy.chmod(wanted.mode)
    status = copy.stat()
    if wanted.owner is None:
        yield "owner, group and mode (unknown: the backup does not record them)"
    for name, value, actual in (("owner", wanted.owner, status.st_uid), ("group", wanted.group, status.st_gid)):
        if value is not None and value != actual:
            yield f"{name} {value} ({reason or 'the file system keeps its own'}; it is {actual}: chown as root)"
    if wanted.mode is not None and wanted.mode != status.st_mode & 0o777:
        yield f"mode {wanted.mode:04o} (it is {status.st_mode & 0o777:04o})"


def _try_chown(copy: Path, owner: int | None, group: int | None) -> str:
    """Change what differs; the group alone where the owner cannot be. Returns why something could not be, else empty."""
    status = copy.stat()
    uid = -1 if owner in (None, status.st_uid) else owner
    gid = -1 if group in (None, status.st_gid) else group
    if (uid, gid) == (-1, -1) or not hasattr(os, "chown"):
        return ""
    try:
        os.chown(copy, uid or 0, gid or 0)
    except (OSError, OverflowError) as error:
        if uid != -1 and gid != -1:
            with suppress(OSError, OverflowError):
                os.chown(copy, -1, gid or 0)
        return describe_io_error(error).partition(":")[0] if isinstance(error, OSError) else "no such number"
    return ""


def _permissions(mode: int | None) -> int | None:
    """The permission bits alone: a manifest makes no file that runs as another user."""
    return None if mode is None else mode & 0o777
