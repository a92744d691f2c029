"""What every `sqlite_*` value must be, found out without any of the project's code, as a process of its own.

Numbers come from SQL on the tables, from stat and statvfs, and from the bytes of the files (https://sqlite.org/fileformat2.html,
https://sqlite.org/walformat.html). usage: truth.py NAME DATABASE GRACE BACKUPS STATE TEMP; prints a JSON list of
[metric, labels, value]; for an age the value is {"since": time}, for one that began when the agent looked {"seen": true}.
"""

import json
import os
import struct
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import apsw

Row = tuple[str, dict[str, str], Any]
WORKER_TIMEOUT = 300
SPARE_ALIVE = 3600
STATES = ("waiting", "scheduled", "running", "done", "dead")
WAL_STATES = ("idle", "backlog", "pinned", "reset_starved", "absent", "unknown")


def seconds(text: str) -> float:
    """A time as the application wrote it."""
    return float(time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S")) - time.timezone)


def of_file(database: Path) -> Iterator[Row]:
    """Sizes, and what the header says."""
    header = database.read_bytes()[:100]
    page_size = struct.unpack(">H", header[16:18])[0]
    wal = database.with_name(database.name + "-wal")
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    # dbstat visits every page that is in use: what remains is free
    used = connection.execute("SELECT count(*) FROM dbstat").get
    pages = connection.execute("SELECT page_count FROM pragma_page_count").get
    yield "sqlite_database_size_bytes", {}, database.stat().st_size
    yield "sqlite_wal_size_bytes", {}, wal.stat().st_size if wal.exists() else 0
    yield "sqlite_page_size_bytes", {}, page_size
    yield "sqlite_pages", {}, pages
    yield "sqlite_free_pages", {}, pages - used
    yield "sqlite_fragmentation_ratio", {}, (pages - used) / pages
    number = struct.unpack(">I", header[96:100])[0]
    labels = {
        "path": str(database),
        "journal_mode": "wal" if header[18:20] == b"\2\2" else "rollback",
        "auto_vacuum": "none" if header[52:56] == b"\0\0\0\0" else "full",
        "profile": "prismq",
        "lease_kind": "lease",
        "owner_sqlite_version": f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}",
    }
    yield "sqlite_info", labels, 1
    yield "sqlite_owner_wal_reset_vulnerable", {}, 1
    yield "sqlite_up", {}, 1


def of_layout(database: Path) -> Iterator[Row]:
    """Page by page, in the order of each tree."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    pages: list[Any] = connection.execute("SELECT name, pageno, unused FROM dbstat ORDER BY name, path").fetchall()
    jumps = sum(one[0] == next_[0] and next_[1] != one[1] + 1 for one, next_ in pairwise(pages))
    yield "sqlite_unused_bytes", {}, sum(unused for *_, unused in pages)
    yield "sqlite_out_of_order_pages_ratio", {}, jumps / len(pages)


def of_wal(database: Path) -> Iterator[Row]:
    """Live frames by their salt, copied ones by the WAL-index; nobody reads and little is pending, so it is idle."""
    wal, shm = (database.with_name(database.name + end) for end in ("-wal", "-shm"))
    if wal.exists():
        content, page_size = wal.read_bytes(), struct.unpack(">H", database.read_bytes()[16:18])[0]
        salt, frames, size = content[16:24], 0, 24 + page_size
        while salt and content[32 + frames * size + 8 : 32 + frames * size + 16] == salt:
            frames += 1
        copied = struct.unpack("=I", shm.read_bytes()[96:100])[0]
        yield "sqlite_wal_frames", {}, frames
        yield "sqlite_wal_checkpointed_frames", {}, copied
        yield "sqlite_wal_backlog_bytes", {}, (frames - copied) * page_size
    now = "idle" if wal.exists() else "absent"
    for state in WAL_STATES:
        yield "sqlite_wal_state", {"state": state}, int(state == now)


def of_tasks(database: Path, grace: float) -> Iterator[Row]:
    """Every task by hand: plain reads of the tables, judged here."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    rows: list[Any] = connection.execute(
        "SELECT type, status, run_after_utc, lease_until_utc, locked_by FROM task_queue"
    ).fetchall()
    beats: list[Any] = connection.execute("SELECT worker_id, heartbeat_utc FROM workers").fetchall()
    now = time.time()
    alive = {worker for worker, beat in beats if now - seconds(beat) <= WORKER_TIMEOUT}
    for queue in sorted({row[0] for row in rows}):
        mine = [row[1:] for row in rows if row[0] == queue]
        found = [(judged(status, seconds(start), now), seconds(start)) for status, start, *_ in mine]
        for state in STATES:
            yield "sqlite_queue_tasks", {"queue": queue, "state": state}, sum(one == state for one, _ in found)
            yield "sqlite_queue_tasks_capped", {"queue": queue, "state": state}, 0
        waiting = [start for state, start in found if state == "waiting"]
        leases = [
            (seconds(end), holder)
            for status, _, end, holder in mine
            if status in ("leased", "processing") and end is not None
        ]
        # A worker that lives is left its task for an hour.
        stale = [end for end, holder in leases if now - end > (SPARE_ALIVE if holder in alive else grace)]
        labels = {"queue": queue}
        yield "sqlite_queue_oldest_waiting_age_seconds", labels, {"since": min(waiting)} if waiting else 0
        yield "sqlite_queue_head_unchanged_seconds", labels, {"seen": True} if waiting else 0
        yield "sqlite_queue_stale_leases", labels, len(stale)
        yield "sqlite_queue_oldest_stale_lease_age_seconds", labels, {"since": min(stale)} if stale else 0


def of_queue(database: Path) -> Iterator[Row]:
    """Numbers given, workers, and a write lock that nobody takes now."""
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    yield (
        "sqlite_queue_enqueued_total",
        {},
        connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'task_queue'").get,
    )
    yield "sqlite_queue_sequence_regressions_total", {}, 0
    beats: list[Any] = connection.execute("SELECT heartbeat_utc FROM workers").fetchall()
    stale = sum(time.time() - seconds(beat) > WORKER_TIMEOUT for (beat,) in beats)
    yield "sqlite_queue_workers", {"state": "alive"}, len(beats) - stale
    yield "sqlite_queue_workers", {"state": "stale"}, stale
    yield "sqlite_write_lock_busy_ratio", {}, 0


def judged(status: str, start: float, now: float) -> str:
    """The word for a task."""
    if status == "queued":
        return "scheduled" if start > now else "waiting"
    words = {"leased": "running", "processing": "running", "completed": "done", "failed": "dead", "dead_letter": "dead"}
    return words.get(status, "none")


def of_disks(places: dict[str, Path]) -> Iterator[Row]:
    """Room for whoever is not root."""
    for role, place in places.items():
        found = os.statvfs(place)
        yield "sqlite_disk_free_bytes", {"role": role}, found.f_bavail * found.f_frsize
        yield "sqlite_disk_size_bytes", {"role": role}, found.f_blocks * found.f_frsize


def of_backups(folder: Path) -> Iterator[Row]:
    """What lies in the folder."""
    files = [file for file in folder.iterdir() if file.suffix == ".db"] if folder.exists() else []
    beside = {file: file.with_suffix(".manifest.json") for file in files}
    proved = {file: json.loads(manifest.read_text()) for file, manifest in beside.items() if manifest.exists()}
    for state, chosen in (
        ("verified", list(proved)),
        ("unverified", [file for file in files if file not in proved]),
        ("failed", []),
    ):
        yield "sqlite_backups", {"state": state}, len(chosen)
        yield "sqlite_backups_size_bytes", {"state": state}, sum(file.stat().st_size for file in chosen)
    if proved:
        newest = max(proved, key=lambda file: proved[file]["snapshot_time"])
        told = proved[newest]
        yield "sqlite_backup_last_success_timestamp_seconds", {}, told["snapshot_time"]
        yield "sqlite_backup_age_seconds", {}, {"since": told["snapshot_time"]}
        yield (
            "sqlite_backup_last_verified_timestamp_seconds",
            {},
            max(each["verified_time"] for each in proved.values()),
        )
        yield "sqlite_backup_last_size_bytes", {}, newest.stat().st_size
        yield "sqlite_backup_last_duration_seconds", {}, told["finished_time"] - told["snapshot_time"]


def of_content(database: Path, backups: Path) -> Iterator[Row]:
    """The share of the newest backup's tables that the database has no more."""
    manifests = [json.loads(file.read_text()) for file in backups.glob("*.manifest.json")]
    newest = max(manifests, key=lambda manifest: manifest["sequence"], default={"row_counts": {}})
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    now = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    before = set(newest["row_counts"])
    yield "sqlite_content_lost_ratio", {}, len(before - now) / max(1, len(before))


def main(name: str, database: Path, grace: float, backups: Path, state: Path, temp: Path) -> None:
    """Print all of it."""
    # the bytes first: opening them beside a connection of this process would drop that connection's locks
    wal = list(of_wal(database))
    disks = {"database": database.parent, "backups": backups, "temp": temp, "state": state}
    tables = [*of_file(database), *of_layout(database), *of_tasks(database, grace), *of_queue(database)]
    rows = [*wal, *tables, *of_disks(disks), *of_backups(backups), *of_content(database, backups)]
    print(json.dumps([(metric, {"database": name, **labels}, value) for metric, labels, value in rows]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), *map(Path, sys.argv[4:7]))
