"""What a database file is beside its rows: journal mode, page size, header fields, owner, group and mode.

A backup is a single file in rollback-journal mode, private to the one who took it; the manifest records what its source had,
so that a restore puts it back. In the file itself only WAL is recorded (bytes 18 and 19 of the header,
https://sqlite.org/fileformat2.html#file_format_version_numbers): the other journal modes belong to a connection.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import apsw

from actions.model.context import ActionContext
from actions.model.errors import Unverified
from collectors.access.connection import open_immutable
from collectors.backup_catalog.manifest import Manifest
from collectors.raw_reader.client import RawReaderUnavailable

JournalMode = Literal["wal", "delete"]
# The first four bytes of a WAL; its lowest bit tells the byte order of the checksums (https://sqlite.org/walformat.html).
_WAL_MAGIC = 0x377F0682


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """What the header of a database file says of it, beside the journal mode. `auto_vacuum`: 0 none, 1 full, 2 incremental."""

    page_size: int
    auto_vacuum: int
    user_version: int
    application_id: int

    def in_words(self) -> tuple[str, ...]:
        """Each field by SQLite's name for it."""
        return tuple(f"{field.name} {getattr(self, field.name)}" for field in fields(self))


def read_header_fields(connection: apsw.Connection) -> HeaderFields:
    """Read them on a connection. Raises apsw.Error."""
    return HeaderFields(**{field.name: int(connection.pragma(field.name)) for field in fields(HeaderFields)})


def recorded_settings(context: ActionContext, plain: Path) -> dict[str, str | int | None]:
    """The fields of a manifest that say what the source is; `plain` is the proved copy of it. Raises OSError, apsw.Error."""
    status = context.target.path.stat()
    with open_immutable(plain) as copy:
        header = read_header_fields(copy)
    return {
        "journal_mode": read_journal_mode(context),
        "auto_vacuum": header.auto_vacuum,
        "user_version": header.user_version,
        "application_id": header.application_id,
        "file_owner": status.st_uid,
        "file_group": status.st_gid,
        "file_mode": status.st_mode & 0o7777,
    }


def read_journal_mode(context: ActionContext) -> JournalMode | None:
    """The journal mode of the database by its header, of a missing or malformed one by its WAL; None where neither tells.

    No connection is opened, so nothing appears beside the file.
    """
    try:
        header = context.raw.read_database_header(context.target.path)
    except (RawReaderUnavailable, OSError):
        return None
    if header is not None and header.valid:
        return "wal" if header.wal else "delete"
    return "wal" if _has_wal_header(context.target.wal) else None


def require_recorded_fields(path: Path, manifest: Manifest) -> None:
    """Raises Unverified unless a backup's file has the header fields of its manifest; older manifests lack them."""
    with open_immutable(path) as copy:
        difference = header_difference(read_header_fields(copy), manifest)
    if difference:
        raise Unverified(
            f"{path.name} is not what its manifest says: {difference}",
            reason="content",
            next_step="take a new backup; keep this file for inspection",
        )


def header_difference(header: HeaderFields, manifest: Manifest) -> str:
    """The first header field that is not what the manifest recorded, in words; empty when all are."""
    for name in ("auto_vacuum", "user_version", "application_id"):
        recorded = getattr(manifest, name)
        if recorded is not None and recorded != getattr(header, name):
            return f"{name} is {getattr(header, name)} instead of {recorded}"
    return ""


def _has_wal_header(wal: Path) -> bool:
    """Whether a WAL lies there that no application uses: the database is missing or malformed."""
    try:
        with wal.open("rb") as file:
            return int.from_bytes(file.read(4)) & ~1 == _WAL_MAGIC
    except OSError:
        return False
