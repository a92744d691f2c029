"""Attacks on backups and restores: what could make them lie, lose, or litter, tried for real."""

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from actions.backups.copy_process import CopyOrder, CopyOrderMismatch, execute_copy_order
from actions.backups.snapshot_pin import pin_snapshot
from actions.model.context import ActionContext
from actions.model.errors import Failed
from actions.model.events import Event
from actions.model.stop import StopSignal
from actions.sqlite.wal_budget import limit_wal_growth
from collectors.access.connection import open_immutable
from collectors.backup_catalog.local_directory import manifest_path
from collectors.backup_catalog.store import find_backups
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, RetentionCounts, Target
from queuekeeper import QueueBackup, QueueBackupError
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import by_hand, by_rule, planned, target_of

Hold = Callable[[Path], AbstractContextManager[int]]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and mount")


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put("queued", 20)
    place = BackupSettings(tmp_path / "b", RetentionCounts(1, 0, 0, 0, 0), own_folder=False)
    return target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))


def backed_up(target: Target) -> Path:
    run = by_hand(target, "backup")
    assert run.outcome == "done", run.message
    return Path(str(run.figures["path"]))


def work_on(target: Target, raw: RawReader, events: list[Event] | None = None) -> ActionContext:
    """What the door hands an action, without a door."""
    tell = (lambda _event: None) if events is None else events.append
    return ActionContext(
        target=target,
        options={},
        automatic=False,
        trust_owner=False,
        last_attempt=None,
        source_failure="",
        raw=raw,
        stop=StopSignal(),
        now=time.time,
        emit=tell,
    )


def value(path: Path, sql: str) -> object:
    with open_immutable(path) as copy:
        return copy.execute(sql).get


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def fix_checksum(path: Path) -> None:
    place = manifest_path(path)
    data = json.loads(place.read_text())
    data["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    data["bytes"] = path.stat().st_size
    place.write_text(json.dumps(data))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the pin


def test_a_read_slot_shared_with_an_older_reader_does_not_make_an_old_copy(
    target: Target, queue: prismq.Queue, held_reader: Hold
) -> None:
    """With all four slots taken a reader shares one whose mark is older than what it sees; no count tells the difference."""
    queue.owner.wal_autocheckpoint(0)
    with ExitStack() as readers:
        for number in range(4):
            queue.owner.execute("UPDATE task_queue SET priority = ?", (number,))
            readers.enter_context(held_reader(queue.path))
        queue.owner.execute("UPDATE task_queue SET priority = 77")
        run = by_hand(target, "backup")
    assert run.outcome == "done", run.message
    assert value(Path(str(run.figures["path"])), "SELECT min(priority) FROM task_queue") == 77
    assert run.figures["method"] == "pages"
    assert run.figures["note"]


def test_the_snapshot_time_is_not_later_than_the_pin(target: Target, queue: prismq.Queue, raw: RawReader) -> None:
    asked: list[float] = []
    work = replace(work_on(target, raw), now=lambda: asked.append(len(asked)) or float(len(asked)))
    with pin_snapshot(work) as pin:
        assert (pin.taken_at, len(asked)) == (1.0, 1)
        assert pin.mark is not None


@pytest.mark.parametrize("mode", ["truncate", "full", "restart"])
def test_slot_zero_is_copied_from_the_file_alone_though_the_wal_is_written_again(
    target: Target, queue: prismq.Queue, raw: RawReader, tmp_path: Path, mode: str
) -> None:
    """A reader of a WAL that is all copied holds no frame; the next writer starts the WAL from its beginning."""
    queue.owner.pragma("wal_checkpoint", mode)
    copy = tmp_path / "copy.db"
    copy.touch()
    with pin_snapshot(work_on(target, raw)) as pin:
        assert pin.mark is not None
        assert pin.mark.frame == 0
        queue.put("queued", 500)
        queue.owner.pragma("wal_checkpoint", "passive")
        orders = (str(target.path), str(target.wal), str(copy), pin.mark.frame, pin.mark.salt, pin.page_size, pin.pages)
        # The copying process, as the product starts it: closing a descriptor here would drop our own locks.
        copy_in_a_process(CopyOrder(*orders))
    assert value(copy, "SELECT count(*) FROM task_queue") == 20


def test_a_file_that_shrinks_or_is_longer_than_the_snapshot_is_copied_right(tmp_path: Path) -> None:
    path = tmp_path / "shrinking.db"
    owner = apsw.Connection(str(path))
    owner.pragma("auto_vacuum", "full")
    owner.execute("PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, x)").fetchall()
    owner.wal_autocheckpoint(0)
    place = BackupSettings(tmp_path / "b", own_folder=False)
    target = target_of(path, backup=place, limits=Limits(disk_reserve=0))
    for rows, checkpoint in ((300, None), (10, None), (10, "passive"), (200, "truncate"), (0, "passive")):
        owner.execute("DELETE FROM t")
        for _ in range(rows):
            owner.execute("INSERT INTO t (x) VALUES (randomblob(4000))")
        if checkpoint:
            owner.pragma("wal_checkpoint", checkpoint)
        run = by_hand(target, "backup")
        assert (run.outcome, run.figures["method"]) == ("done", "file"), run.message
        backup = Path(str(run.figures["path"]))
        assert value(backup, "SELECT count(*) FROM t") == rows
        assert backup.stat().st_size == run.figures["pages"] * 4096
    owner.close()


def copy_in_a_process(orders: CopyOrder) -> None:
    from actions.backups.copy_process import encode_order

    command = [sys.executable, "-I", "-m", "actions.backups.copy_process"]
    done = subprocess.run(command, input=encode_order(orders), capture_output=True, check=True)
    assert b'"ok": true' in done.stdout


def test_a_wal_that_is_shorter_than_the_mark_is_not_used(tmp_path: Path) -> None:
    salt = b"12345678"
    (tmp_path / "db").write_bytes(b"\0" * 4096)
    frame = (1).to_bytes(4) + (1).to_bytes(4) + salt + b"\0" * 8
    (tmp_path / "db-wal").write_bytes(b"\0" * 16 + salt + b"\0" * 8 + frame + b"\0" * 4000)
    (tmp_path / "copy").touch()
    orders = CopyOrder(str(tmp_path / "db"), str(tmp_path / "db-wal"), str(tmp_path / "copy"), 1, salt.hex(), 4096, 1)
    with pytest.raises(CopyOrderMismatch, match="not whole"):
        list(execute_copy_order(orders))


def test_a_path_that_is_a_symbolic_link_is_copied_by_pages(target: Target, tmp_path: Path) -> None:
    """SQLite's WAL lies beside the real file."""
    link = tmp_path / "link.db"
    link.symlink_to(target.path)
    run = by_hand(replace(target, path=link), "backup")
    assert (run.outcome, run.figures["method"]) == ("done", "pages"), run.message
    assert run.figures["note"]


@pytest.mark.parametrize("name", ["per%41cent?.db", "hash#1.db", "quo'te\".db", "-wal.db"])
def test_an_odd_name_is_backed_up_drilled_and_restored(
    make_queue: Callable[..., prismq.Queue], tmp_path: Path, name: str
) -> None:
    queue = make_queue(name)
    queue.put("queued", 3)
    place = BackupSettings(tmp_path / "b", own_folder=False)
    target = target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))
    backed_up(target)
    queue.put("queued", 3)
    run = by_hand(target, "restore", in_place=True)
    assert run.outcome == "done", run.message
    assert queue.value("SELECT count(*) FROM task_queue") == 3


# --- budgets


def test_counting_under_the_pin_ends_when_the_wal_outgrows_its_budget(
    target: Target, queue: prismq.Queue, raw: RawReader
) -> None:
    tight = replace(target, limits=Limits(wal_growth_bytes=0, wal_growth_ratio=0.0))
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    reader = apsw.Connection(str(queue.path), flags=apsw.SQLITE_OPEN_READONLY)
    with pytest.raises(Failed) as caught, limit_wal_growth(work_on(tight, raw), 0, reader):
        reader.execute(endless).fetchall()
    reader.close()
    assert caught.value.reason == "wal_growth"


def test_a_wal_database_whose_owner_is_down_is_not_taken_for_one_with_a_rollback_journal(
    target: Target, queue: prismq.Queue
) -> None:
    queue.owner.execute("CREATE TABLE ballast (x); INSERT INTO ballast VALUES (zeroblob(17000000))")
    queue.owner.close()
    assert not target.wal.exists()
    run = by_rule(target, "backup")
    assert run.outcome == "done", run.message
    assert planned(target, "backup").figures["rollback_journal"] is False


# --- what is proved, and what was


def damage_live_table(target: Target, queue: prismq.Queue) -> None:
    root = queue.value("SELECT rootpage FROM sqlite_schema WHERE name = 'task_queue'")
    queue.owner.pragma("wal_checkpoint", "truncate")
    queue.owner.close()
    with target.path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xee" * 4096)


@pytest.mark.parametrize(
    ("action", "outcome"), [("verify", "unverified"), ("restore", "done"), ("drill", "unverified")]
)
def test_a_backup_that_fails_its_proof_counts_as_failed_and_pushes_no_good_one_out(
    target: Target, action: str, outcome: str
) -> None:
    good, rotten = backed_up(target), backed_up(target)
    flip(rotten, 9000)
    options = {"to": str(target.path) + ".restored"} if action == "restore" else {}
    assert by_hand(target, action, **options).outcome == outcome
    assert {Path(backup.reference): backup.state for backup in find_backups(target)} == {
        good: "verified",
        rotten: "failed",
    }
    by_hand(target, "prune")
    assert good.exists()
    assert by_hand(target, "drill").figures["path"] == str(good)


def damage_an_index(path: Path) -> None:
    """An index gets the tree of another one, which is empty: the schema's text and every count stay as they were."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA writable_schema=ON")
    empty = "(SELECT rootpage FROM sqlite_schema WHERE name = 'ix_logs_task')"
    connection.execute(f"UPDATE sqlite_schema SET rootpage = {empty} WHERE name = 'ix_task_type_status'")
    connection.close()


def half_with_a_journal(path: Path) -> None:
    """What a copy that was killed leaves: SQLite, allowed to, would roll it back to an empty database."""
    data = path.read_bytes()
    journal = bytearray(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 504)
    journal[12:16], journal[20:24], journal[24:28] = b"\0\0\0\0", (512).to_bytes(4), (4096).to_bytes(4)
    path.with_name(path.name + "-journal").write_bytes(journal)
    path.write_bytes(data[: len(data) // 2])


def empty_but_valid(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE t (x); DROP TABLE t; VACUUM")
    connection.close()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "an index that was damaged": damage_an_index,
    "half a file with its journal": half_with_a_journal,
    "an empty valid file": empty_but_valid,
    "a page of zeros": lambda path: path.write_bytes(
        path.read_bytes()[:8192] + b"\0" * 4096 + path.read_bytes()[12288:]
    ),
    "a page too many": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 4096),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_with_a_checksum_that_fits_is_found_by_verify_drill_and_restore(
    target: Target, queue: prismq.Queue, damage: Callable[[Path], object]
) -> None:
    path = backed_up(target)
    damage(path)
    fix_checksum(path)
    manifest_text = manifest_path(path).read_text()
    for action, options in (("verify", {}), ("drill", {}), ("restore", {"in_place": True, "backup": str(path)})):
        manifest_path(path).write_text(manifest_text)
        assert by_hand(target, action, **options).outcome == "unverified", action
    assert queue.value("SELECT count(*) FROM task_queue") == 20


def test_a_flipped_byte_anywhere_is_found(target: Target, raw: RawReader) -> None:
    from actions.backups.select import load_backup, prove_backup
    from actions.model.errors import Unverified

    work, path = work_on(target, raw), backed_up(target)
    whole, manifest_text = path.read_bytes(), manifest_path(path).read_text()
    chance = random.Random(4)
    for at in (0, 18, 24, 27, 40, 92, 99, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(60))):
        flip(path, at)
        with pytest.raises(Unverified):
            prove_backup(work, load_backup(work, str(path)))
        path.write_bytes(whole)
        manifest_path(path).write_text(manifest_text)


def test_a_source_that_cannot_be_read_whole_stops_rotation(target: Target, queue: prismq.Queue) -> None:
    earlier = [backed_up(target), backed_up(target)]
    damage_live_table(target, queue)
    run = by_hand(target, "backup")
    assert run.outcome == "unverified", (run.outcome, run.message)
    assert by_hand(target, "prune").reason == "source_failed"
    assert all(path.exists() for path in earlier)


# --- restores


def test_a_database_damaged_deep_inside_can_be_restored_once_its_application_is_stopped(
    target: Target, queue: prismq.Queue
) -> None:
    backed_up(target)
    damage_live_table(target, queue)
    damaged = target.path.read_bytes()
    first = by_hand(target, "restore", in_place=True)
    assert (first.outcome, first.reason) == ("unverified", "damaged_source")
    assert "--application-stopped" in first.next_step
    assert target.path.read_bytes() == damaged
    run = by_hand(target, "restore", in_place=True, application_stopped=True)
    assert (run.outcome, run.figures["way"]) == ("done", "malformed"), run.message
    aside = next(path for path in map(Path, str(run.figures["moved_aside"]).split(", ")) if path.name[-1].isdigit())
    assert aside.read_bytes() == damaged


def test_no_file_appears_beside_a_live_database(target: Target, queue: prismq.Queue, tmp_path: Path) -> None:
    from actions.model.request import Request
    from actions.runner.protocol import Job
    from actions.runner.spawn import RunningAction
    from actions.store.database import state_store
    from actions.store.runs import enqueue_and_claim

    home = tmp_path / "home"
    home.mkdir()
    own = prismq.create(home / "q.db")
    own.put("queued", 3)
    there = target_of(home / "q.db", backup=target.backup, limits=Limits(disk_reserve=0))
    there = replace(there, state=tmp_path / "state")
    backed_up(there)
    request = Request("restore", there.name, options={"in_place": True})
    with state_store(there.state) as store:
        claim = enqueue_and_claim(store, request, str(there.path), time.time())
    child = RunningAction(Job(request, there, there.state, claim))
    seen = {name for _ in child.read_events() for name in names(home)}
    child.wait_for_exit()
    assert seen | set(names(home)) == {"q.db", "q.db-wal", "q.db-shm"}
    assert names(there.state / "scratch") == []
    own.owner.close()


def test_a_safety_copy_without_a_backup_place_goes_where_the_backup_lies(target: Target, tmp_path: Path) -> None:
    path = backed_up(target)
    before = names(tmp_path)
    run = by_hand(replace(target, backup=None), "restore", in_place=True, backup=str(path))
    assert run.outcome == "done", run.message
    assert Path(str(run.figures["safety_backup"])).parent == path.parent
    assert names(tmp_path) == before


@as_root
@pytest.mark.parametrize("exists", [True, False])
def test_what_root_restores_belongs_to_the_application(target: Target, queue: prismq.Queue, exists: bool) -> None:
    """The owner that the manifest records counts, not that of the file which lies there now."""
    os.chown(target.path, 12345, 12346)
    target.path.chmod(0o640)
    backed_up(target)
    queue.owner.close()
    if exists:
        target.path.write_bytes(b"\0" * 5000)
        os.chown(target.path, 0, 0)
    else:
        target.path.unlink()
    run = by_hand(target, "restore", in_place=True)
    assert run.outcome == "done", run.message
    status = target.path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 12346, 0o640)


def test_a_file_open_under_another_name_is_not_swapped(target: Target, queue: prismq.Queue, tmp_path: Path) -> None:
    """As of an application in a container, where the same file has another path."""
    backed_up(target)
    queue.owner.close()
    target.path.write_bytes(b"\x00" * 5000)
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "data.db"
    other.hardlink_to(target.path)
    code = "import sys; f = open(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(other)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout.readline() == "ready\n"
        run = by_hand(target, "restore", in_place=True)
        user.kill()
    assert (run.outcome, run.reason) == ("blocked", "application_connected")
    assert target.path.stat().st_size == 5000


def test_losses_are_told_though_a_virtual_table_needs_an_extension_that_is_not_here(
    target: Target, queue: prismq.Queue
) -> None:
    queue.owner.execute("PRAGMA writable_schema=ON")
    queue.owner.execute(
        "INSERT INTO sqlite_schema VALUES ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING not_loaded_here(x)')"
    )
    queue.owner.execute("PRAGMA writable_schema=OFF")
    backed_up(target)
    queue.put("queued", 7)
    assert "7 newer" in str(planned(target, "restore", {"in_place": True}).figures["lost"])
    assert by_hand(target, "restore", in_place=True).outcome == "done"


def test_the_command_passes_over_a_damaged_newest_backup_and_says_so_but_never_over_a_named_one(
    target: Target, queue: prismq.Queue
) -> None:
    good = backed_up(target)
    queue.put("queued", 5)
    rotten = backed_up(target)
    flip(rotten, 9000)
    command = [sys.executable, "-m", "exporter.commands", "restore", str(target.path), "--from"]
    command += [str(target.backup.directory), "--state", str(target.state), "--in-place"]
    named = subprocess.run([*command, str(rotten)], capture_output=True, text=True)
    assert named.returncode == 5, named.stderr
    assert queue.value("SELECT count(*) FROM task_queue") == 25
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert good.name in done.stdout
    assert queue.value("SELECT count(*) FROM task_queue") == 20


def test_a_restore_passes_over_each_damaged_backup_in_one_sentence_and_refuses_when_none_is_intact(
    target: Target, queue: prismq.Queue, tmp_path: Path
) -> None:
    good, second, third = backed_up(target), backed_up(target), backed_up(target)
    flip(third, 9000)
    second.write_bytes(second.read_bytes()[:-4096])
    manifest = manifest_path(second)
    manifest.write_text(manifest.read_text().replace(str(good.stat().st_size), str(second.stat().st_size)))
    run = by_hand(target, "restore", to=str(tmp_path / "there.db"))
    assert run.outcome == "done", run.message
    assert run.message.startswith(f"restored {good.name} to ")
    assert second.name in run.message
    assert third.name in run.message
    assert {Path(b.reference): b.state for b in find_backups(target)} == {
        good: "verified",
        second: "failed",
        third: "failed",
    }
    again = by_hand(target, "restore", to=str(tmp_path / "again.db"))
    assert third.name in again.message, "what was known to be damaged is told too"
    flip(good, 9000)
    assert by_hand(target, "restore", to=str(tmp_path / "nowhere.db")).outcome == "unverified"
    assert not (tmp_path / "nowhere.db").exists()


def test_leftovers_of_a_killed_decompression_go_at_the_next_start(target: Target) -> None:
    target = replace(target, backup=replace(target.backup, compress="zstd"))
    path = backed_up(target)
    partial = path.with_name(f".{path.name}.partial-{os.uname().nodename}@999999:1")
    for action in ("verify", "drill"):
        partial.write_bytes(b"x" * 1000)
        assert by_hand(target, action).outcome == "done"
        assert not partial.exists(), action


# --- full disks


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k,mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@as_root
def test_a_disk_with_room_for_the_backup_but_not_for_its_manifest_keeps_neither(target: Target, tmp_path: Path) -> None:
    size = backed_up(target).stat().st_size
    with small_disk(tmp_path / "disk", size // 1024) as disk:
        run = by_hand(replace(target, backup=BackupSettings(disk, own_folder=False)), "backup")
        assert (run.outcome, run.reason) == ("failed", "disk_full"), run.message
        assert int(run.message.rpartition(" are missing")[0].split()[-1]) > 0
        assert names(disk) == []


@as_root
def test_the_missing_bytes_count_what_lies_in_the_wal(target: Target, queue: prismq.Queue, tmp_path: Path) -> None:
    queue.owner.pragma("wal_checkpoint", "truncate")
    queue.fill_wal(1000)
    assert target.path.stat().st_size < 10**6
    with small_disk(tmp_path / "disk", 2048) as disk:
        run = by_hand(replace(target, backup=BackupSettings(disk, own_folder=False)), "backup")
        assert (run.outcome, run.reason) == ("refused", "disk_full")
        missing = int(run.message.rpartition(": ")[2].split()[0])
        assert 1.9e6 < missing < 4.3e6
        assert names(disk) == []


# --- the Python API


def test_looking_while_another_thread_deletes_is_no_error(target: Target, queue: prismq.Queue) -> None:
    backups = QueueBackup(queue.path, target.backup.directory, state=target.state)
    first = backups.create_backup()
    stop, troubles = threading.Event(), []
    clones = [first.with_name(f"queue_backup_queue_clone{number}.db") for number in range(30)]

    def look() -> None:
        try:
            while not stop.is_set():
                backups.list_backups()
                assert backups.get_latest_backup() is not None
        except Exception as error:  # noqa: BLE001 asserted below
            troubles.append(error)

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    for _ in range(20):
        for clone in clones:
            manifest_path(clone).hardlink_to(manifest_path(first))
            clone.hardlink_to(first)
        for clone in clones:
            clone.unlink()
            manifest_path(clone).unlink()
    stop.set()
    for watcher in watchers:
        watcher.join()
    assert troubles == []


def test_a_directory_that_cannot_be_made_is_a_sentence(queue: prismq.Queue, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QueueBackupError, match="cannot create"):
        QueueBackup(queue.path, tmp_path / "file" / "backups", state=tmp_path / "state")
