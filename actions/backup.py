"""Takes a backup beside live writers, proves its content, and publishes it with its manifest.

Runbook: docs/runbook.md#queuebackuptooold. A backup counts from its snapshot, not from its end, and only once proved.
"""

import re
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import apsw

from actions.run.errors import Failed, Refused
from actions.run.options import OptionKind
from actions.run.plan import Done, Figure, Plan
from actions.run.work import Work
from actions.writing.free_space import nearest_existing, require_free
from actions.writing.pinned_copy import Copied, copy_pinned
from actions.writing.proof import prove, sha256_of
from actions.writing.publish import (
    backup_name,
    partial_file,
    publish,
    remove_leftovers,
    sync_file,
    write_private,
)
from collectors.manifest import Manifest, Source, encode, manifest_path
from collectors.target import BackupPlace

NAME = "backup"
LONG = True
OPTIONS = {
    "name": OptionKind("text", "a word that becomes part of the file's name: letters, digits, - and _"),
    "stall": OptionKind("seconds", "the stall of the application that the operator accepts, in seconds"),
}

# Bytes copied per second beside a writer, for predicting only; what was measured is in the result.
COPY_RATE = 300e6


def plan(work: Work) -> Plan:
    """Check the place and the room. Raises Refused."""
    place = _place(work)
    label = _label(work)
    size = work.target.path.stat().st_size
    rollback = not work.target.wal.exists()
    folder = place.folder(work.target.name)
    require_free(nearest_existing(folder), size, work.target.limits.disk_reserve, "the copy")
    stall = size / COPY_RATE if rollback else 0.0
    if work.automatic and stall > work.target.limits.read_rollback:
        _require_word(work, stall)
    return Plan(
        steps=(
            f"copy {size} bytes of {work.target.path} to {folder}",
            "prove the copy",
            "publish it with its manifest",
        ),
        figures={"bytes": size, "directory": str(folder), "label": label, "rollback_journal": rollback},
        stall=stall,
    )


def run(work: Work, plan: Plan) -> Done:
    """Copy, prove, publish. Nothing is left under a final name unless it was proved."""
    folder = Path(str(plan.figures["directory"]))
    _make_folder(folder)
    removed = remove_leftovers(folder)
    started = time.monotonic()
    name = backup_name(work.target.name, str(plan.figures["label"]), work.now())
    with partial_file(folder, name) as partial:
        copied = copy_pinned(work, partial)
        copied_after = time.monotonic() - started
        work.stop.check()
        prove(partial, copied.expected)
        work.stop.check()
        sync_file(partial)
        manifest = _manifest(work, partial, copied)
        final = folder / name
        publish(partial, final)
    write_private(manifest_path(final), encode(manifest))
    return Done(
        f"backed up to {final}",
        _figures(final, manifest, copied, copied_after, time.monotonic() - started, len(removed)),
    )


def _place(work: Work) -> BackupPlace:
    if work.target.backup is None:
        raise Refused(
            "no backup directory is known",
            reason="no_directory",
            next_step="give --to DIR, or backup.directory in the configuration",
        )
    return work.target.backup


def _label(work: Work) -> str:
    label = str(work.options.get("name") or "")
    if label and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", label):
        raise Refused(
            f"the name {label!r} cannot be part of a file name", reason="name", next_step="use letters, digits, - and _"
        )
    return label


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Failed(
            f"cannot create {folder}: {error.strerror}",
            reason="directory",
            next_step="create it for this user, or give --to DIR",
        ) from error


def _require_word(work: Work, stall: float) -> None:
    if work.number("stall", 0.0) < stall:
        raise Refused(
            f"in rollback-journal mode every commit waits for the copy, about {stall:.2f} s",
            reason="stall",
            next_step="run it by hand at a quiet time, or switch the application to journal_mode=WAL",
        )


def _manifest(work: Work, file: Path, copied: Copied) -> Manifest:
    path = work.target.path
    found = path.stat()
    expected = copied.expected
    now = work.now()
    return Manifest(
        source=Source(path=str(path.resolve()), device=found.st_dev, inode=found.st_ino, database=work.target.name),
        snapshot_time=copied.snapshot_time,
        finished_time=now,
        kind="scheduled" if work.automatic else "manual",
        bytes=file.stat().st_size,
        page_size=expected.page_size,
        pages=expected.pages,
        schema_sha256=expected.schema_sha256,
        row_counts=dict(expected.row_counts),
        sha256=sha256_of(file),
        compression="none",
        sqlite_version=apsw.sqlite_lib_version(),
        queuekeeper_version=version("queuekeeper"),
        verified_time=now,
    )


def _figures(
    final: Path, manifest: Manifest, copied: Copied, copied_after: float, seconds: float, removed: int
) -> Mapping[str, Figure]:
    return {
        "path": str(final),
        "bytes": manifest.bytes,
        "pages": manifest.pages,
        "rows": sum(manifest.row_counts.values()),
        "restarts": copied.restarts,
        "wal_growth_bytes": copied.wal_growth,
        "copy_seconds": round(copied_after, 4),
        "seconds": round(seconds, 4),
        "leftovers_removed": removed,
    }
