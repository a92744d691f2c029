"""Restores the newest verified backup into scratch, checks the queue in it, and measures: the proof that restoring works.

Measured are the time it takes (RTO) and the age of what would be lost (RPO). The live database is not touched.
Runbook: docs/runbook.md#procedure-restore-drill.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import apsw

from actions.backups.compression import plain_file
from actions.backups.publish import partial_file, remove_leftovers, sync_file
from actions.backups.queue_check import beyond_their_number, last_numbers
from actions.backups.scratch import scratch_folder
from actions.backups.select import check_source, named, newest_verified, no_backup, prove_chosen
from actions.model.context import Work
from actions.model.errors import Unverified
from actions.model.options import OptionKind
from actions.model.plan import Done, Plan
from actions.sqlite.disk_space import require_free, writing_to
from collectors.poll import take

NAME = "drill"
LONG = True
AUTOMATIC = True
MAY_BE_MISSING = True
WINDOWED = False
DESTRUCTIVE = False
OPTIONS: Mapping[str, OptionKind] = {}

_BLOCK = 16 * 1024 * 1024


def plan(work: Work) -> Plan:
    """Find the backup and the room. Raises Refused."""
    chosen = newest_verified(work)
    if chosen is None:
        raise no_backup(work)
    scratch = scratch_folder(work)
    require_free(scratch, chosen.plain_bytes, work.target.limits.disk_reserve, "the restored copy")
    return Plan(
        steps=(f"restore {chosen.path.name} into {scratch}", "check it as a queue", "remove it"),
        figures={"path": str(chosen.path), "bytes": chosen.plain_bytes},
    )


def run(work: Work, plan: Plan) -> Done:
    """Raises Unverified when what was restored is not a healthy queue."""
    chosen = named(Path(str(plan.figures["path"])))
    check_source(work, chosen)
    scratch = scratch_folder(work)
    remove_leftovers(scratch)
    started = time.monotonic()
    prove_chosen(work, chosen)
    with (
        writing_to(scratch, chosen.plain_bytes, "the restored copy"),
        partial_file(scratch, chosen.path.name.removesuffix(".zst")) as restored,
    ):
        with plain_file(work, chosen.path, chosen.plain_bytes, scratch) as plain:
            _copy(work, plain, restored)
        sync_file(restored)
        seconds = time.monotonic() - started
        tasks = _check_queue(work, restored)
    lost = max(0.0, work.now() - chosen.manifest.snapshot_time)
    return Done(
        f"{chosen.path.name} restores in {seconds:.1f} s; restoring it now would lose the last {lost:.0f} s",
        {
            "path": str(chosen.path),
            "restore_seconds": round(seconds, 4),
            "data_age_seconds": round(lost, 1),
            "tasks": tasks,
        },
    )


def _copy(work: Work, plain: Path, restored: Path) -> None:
    done, total = 0, plain.stat().st_size
    with plain.open("rb") as source, restored.open("wb") as destination:
        while block := source.read(_BLOCK):
            destination.write(block)
            done += len(block)
            work.progress("restored bytes", done, total)
            work.stop.check()


def _check_queue(work: Work, restored: Path) -> int:
    """Open it as the application would, write to it, and read the queue in it; how many tasks it holds."""
    database = apsw.Connection(str(restored), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        _check_sequences(database, restored)
        broken = database.execute("PRAGMA foreign_key_check").fetchall()
        database.execute("BEGIN IMMEDIATE; CREATE TABLE queuekeeper_drill (x); ROLLBACK").fetchall()
    except apsw.Error as error:
        raise _failed(restored, f"SQLite says: {error}") from error
    finally:
        database.close()
    if broken:
        raise _failed(restored, f"{len(broken)} foreign keys of {broken[0][0]} point nowhere")
    return _tasks(work, restored)


def _check_sequences(database: apsw.Connection, restored: Path) -> None:
    for problem in beyond_their_number(database, last_numbers(database)):
        raise _failed(restored, problem)


def _tasks(work: Work, restored: Path) -> int:
    """By the collectors that watch the live queue: what they can read here, they can read after a restore."""
    copy = replace(work.target, path=restored, backup=None, limits=replace(work.target.limits, read_rollback=60.0))
    snapshot = take(copy, None, work.now(), work.raw, only=frozenset({"tasks", "leases"}))
    for name, result in snapshot.collectors.items():
        if not result.success:
            raise _failed(restored, f"its {name} cannot be read: {result.message}")
    return int(sum(sample.at(work.now()) for sample in snapshot.of("sqlite_queue_tasks")))


def _failed(restored: Path, why: str) -> Unverified:
    return Unverified(
        f"{restored.name} was restored and is no healthy queue: {why}",
        reason="drill",
        next_step="look at the application's data; take a new backup when it is repaired",
    )
