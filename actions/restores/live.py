"""Restores into a database that applications have open, through SQLite's backup API in one step.

No other way is safe while an application is connected: copying or renaming files under it corrupts them (docs/safety.md).
Readers keep their snapshot, writers wait for the step, then every connection sees the restored rows.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import apsw

from actions.backups.file_settings import header_difference, read_header_fields
from actions.backups.provable_check import check_structure
from actions.model.context import ActionContext
from actions.model.errors import Failed, Locked
from actions.sqlite.connection import open_writable
from collectors.access.connection import open_immutable, open_read_only
from collectors.backup_catalog.manifest import Manifest
from collectors.queue_profiles.quoting import quote_identifier

# How long to wait for the application to be between two writes, in seconds. The wait itself blocks no process.
LOCK_WAIT = 5.0
_TABLES_WITH_FREE_ROWIDS = """
SELECT name FROM pragma_table_list AS t WHERE schema = 'main' AND type = 'table' AND NOT wr
  AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
  AND NOT EXISTS (SELECT 1 FROM pragma_table_info(t.name) WHERE pk AND upper(type) = 'INTEGER')
"""


def restore_live(context: ActionContext, plain: Path) -> None:
    """Replace the content of the live database by that of `plain` (same page size). Raises Locked, apsw.Error."""
    with open_immutable(plain) as source, open_writable(context.target.path, LOCK_WAIT) as destination:
        backup = destination.backup("main", source, "main")
        try:
            backup.step(-1)
        except apsw.BusyError:
            raise Locked(
                f"the application did not release the write lock within {LOCK_WAIT:g} s; nothing was changed",
                reason="write_lock",
                next_step="stop its workers, or run it again; `queuekeeper readers` shows who holds it",
            ) from None
        finally:
            backup.close(True)
    with open_read_only(context.target.path) as restored:
        problems = check_structure(restored, 3)
    if problems:
        raise apsw.CorruptError(f"quick_check after the restore says: {problems[0]}")


def describe_live_settings(context: ActionContext, manifest: Manifest) -> Mapping[str, str]:
    """What the live file has now, and what it kept of its own, as figures. Raises Failed when a header field was lost."""
    with open_read_only(context.target.path) as live:
        header = read_header_fields(live)
        mode = str(live.pragma("journal_mode"))
    difference = header_difference(header, manifest)
    if difference:
        raise Failed(
            f"the rows are restored, but {difference}",
            reason="header",
            next_step="set it by the PRAGMA of its name, with the application stopped",
        )
    own = []
    if manifest.journal_mode is not None and manifest.journal_mode != mode:
        own.append(f"journal mode {manifest.journal_mode} (the live file keeps {mode})")
    if manifest.page_size != header.page_size:
        own.append(f"page_size {manifest.page_size} (the live file keeps {header.page_size})")
    figures = {"settings": "; ".join((f"journal mode {mode}", *header.in_words()))}
    return {**figures, "not_kept": "; ".join(own)} if own else figures


def change_page_size(plain: Path, page_size: int) -> None:
    """Rewrite a private copy of a backup with another page size: a WAL database cannot change its own.

    Raises Failed where rowids would change: VACUUM may renumber the rows of a table without an INTEGER PRIMARY KEY.
    """
    before = _rowid_digests(plain)
    copy = apsw.Connection(str(plain), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        copy.execute("PRAGMA synchronous=OFF")
        copy.execute(f"PRAGMA page_size={int(page_size)}").fetchall()
        copy.execute("VACUUM")
    finally:
        copy.close()
    changed = [name for name, digest in _rowid_digests(plain).items() if before.get(name) != digest]
    if changed:
        raise Failed(
            f"the live file has pages of {page_size} bytes; rewritten so, the rowids of {changed[0]} would change",
            reason="page_size",
            next_step="restore with --to PATH, or move the database away and restore in its place",
        )


def _rowid_digests(plain: Path) -> Mapping[str, str]:
    """A digest of the rowids of each table that has rowids which are not its key."""
    with open_immutable(plain) as copy:
        tables = [str(name) for (name,) in copy.execute(_TABLES_WITH_FREE_ROWIDS)]
        return {name: _digest_rowids(copy, name) for name in tables}


def _digest_rowids(copy: apsw.Connection, table: str) -> str:
    columns = {str(row[0]).lower() for row in copy.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))}
    alias = next((name for name in ("rowid", "_rowid_", "oid") if name not in columns), None)
    if alias is None:
        return ""  # SQL cannot name them, so no application keeps them
    digest = hashlib.sha256()
    for (number,) in copy.execute(f"SELECT {alias} FROM {quote_identifier(table)} ORDER BY {alias}"):  # noqa: S608 quoted
        digest.update(f"{number} ".encode())
    return digest.hexdigest()
