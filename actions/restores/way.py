"""Chooses how a backup is restored, by what is there now: nothing, a database that can be read, or one that cannot."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from actions.backups.provable_check import check_provable
from actions.model.context import ActionContext
from actions.model.errors import Refused, Unverified
from actions.restores.places import RestoreWay
from actions.sqlite.connection import uses_rollback_journal
from actions.sqlite.interrupt import limit_statements
from collectors.access.connection import open_read_only
from collectors.access.timeouts import TimeLimitExceeded
from collectors.backup_catalog.partial_names import LONGEST_SQLITE_PATH, name_limit

_SIDECARS = ("-wal", "-shm", "-journal")


def choose_way(context: ActionContext) -> RestoreWay:
    """The way to restore. Raises Refused without a destination, or where it exists or cannot be a database's path."""
    to, target = context.options.get("to"), context.target.path
    if to is not None:
        _require_new_path(Path(str(to)))
        return "to"
    if not context.options.get("in_place"):
        raise Refused("no destination is given", reason="no_destination", next_step="give --to PATH or --in-place")
    if not os.path.lexists(target):
        return "missing"
    if not _is_readable(context):
        return "malformed"
    return (
        "malformed" if context.options.get("application_stopped") and not _passes_integrity_check(context) else "live"
    )


def require_whole_source(context: ActionContext) -> tuple[str, ...]:
    """Raises Unverified where what is there is damaged, since its safety copy could not be proved; what is unsure, in words.

    It is read for no longer than any reading of ours may be: a large database is only proved by its safety copy.
    """
    limits = context.target.limits
    seconds = limits.read_rollback if uses_rollback_journal(context) else limits.read_wal
    try:
        problems = check_provable(lambda: _open_limited(context, seconds), 1).problems
    except TimeLimitExceeded:
        return (
            f"what is there was not checked whole within {seconds:g} s: the safety copy proves it, or ends the run",
        )
    except apsw.CorruptError as error:
        raise damaged_source_error(context, error) from error
    if problems:
        raise damaged_source_error(context, problems[0])
    return ()


@contextmanager
def _open_limited(context: ActionContext, seconds: float) -> Iterator[apsw.Connection]:
    with open_read_only(context.target.path) as database, limit_statements(context, database, seconds):
        yield database


def damaged_source_error(context: ActionContext, why: object) -> Unverified:
    """The error of a restore that cannot back up what it would replace."""
    return Unverified(
        f"{context.target.path} cannot be backed up before it is replaced: {why}",
        reason="damaged_source",
        next_step="stop the application, then give --application-stopped: the damaged files are moved aside instead; what the "
        f"backup lacks, queuekeeper salvage {shlex.quote(str(context.target.path))} --to NEW_FILE may bring over",
    )


def _require_new_path(path: Path) -> None:
    if any(os.path.lexists(f"{path}{suffix}") for suffix in ("", *_SIDECARS)):
        raise Refused(
            f"{path} or its sidecars exist", reason="exists", next_step="choose another path, or use --in-place"
        )
    longest = len(os.fsencode(path.name)) + len("-journal")
    limit = name_limit(path.parent)
    if longest > limit or len(os.fsencode(path.absolute())) + len("-journal") > LONGEST_SQLITE_PATH:
        raise Refused(
            f"SQLite cannot keep a database of this name: with -journal behind it, it is longer than {limit} bytes, "
            f"or its path than {LONGEST_SQLITE_PATH}",
            reason="name_too_long",
            next_step="choose a shorter path",
        )


def _passes_integrity_check(context: ActionContext) -> bool:
    """Whether the database passes SQLite's check; one that does not can be moved aside, but not be backed up."""
    try:
        return not check_provable(lambda: open_read_only(context.target.path), 1).problems
    except apsw.CorruptError:
        return False


def _is_readable(context: ActionContext) -> bool:
    """Whether SQLite can read it at all; damage deep inside is no reason to swap files under an application."""
    header = context.raw.read_database_header(context.target.path)
    if header is None or not header.valid:
        return False  # without opening it, which would make sidecars
    try:
        with open_read_only(context.target.path) as database:
            database.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except (apsw.NotADBError, apsw.CorruptError):
        return False
    return True
