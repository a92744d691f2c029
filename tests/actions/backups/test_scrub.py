"""Reading all copies again: what is damaged counts as failed everywhere, and what could not be read is neither."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from actions.backups.select import load_backup
from actions.backups.stored_bytes import check_stored_copy
from actions.model.context import ActionContext
from actions.model.errors import Cancelled, Unverified
from collectors import backups as backups_collector
from collectors.access.context import PollContext
from collectors.backup_catalog.catalog import BackupState
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.backup_catalog.store import find_backups
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, RetentionCounts, Target
from tests.support.scenes import prismq
from tests.support.scenes.backup_damage import (
    BOUND_ROOT,
    flip_byte,
    read_manifest_fields,
    run_backups_command,
    write_manifest_fields,
)
from tests.support.scenes.run_actions import by_hand, by_rule, target_of
from tests.support.scenes.run_in_process import run_here, work_on
from tests.support.scenes.small_disk import fill, small_disk

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give up its rights")


@pytest.fixture(params=["none", "zstd"])
def target(queue: prismq.Queue, tmp_path: Path, request: pytest.FixtureRequest) -> Target:
    queue.put("queued", 20)
    place = BackupSettings(tmp_path / "b", RetentionCounts(1, 0, 0, 0, 0), request.param, own_folder=False)
    return target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))


@pytest.fixture
def work(target: Target, raw: RawReader) -> ActionContext:
    return work_on(target, raw)


def backed_up(work: ActionContext) -> Path:
    return Path(str(run_here("backup", work).figures["path"]))


def states(target: Target) -> dict[Path, BackupState]:
    return {Path(backup.reference): backup.state for backup in find_backups(target)}


def counts(target: Target, raw: RawReader) -> dict[str, float]:
    reading = backups_collector.read(PollContext(target, time.time(), raw), None)
    samples = [s for s in backups_collector.samples(reading) if s.metric.name == "sqlite_backups"]
    return {sample.labels[0]: sample.value_at(0) for sample in samples}


def test_all_copies_are_read_and_a_damaged_one_counts_as_failed(
    target: Target, work: ActionContext, raw: RawReader
) -> None:
    good, bad = backed_up(work), backed_up(work)
    done = run_here("scrub", work)
    assert (done.figures["copies"], done.figures["intact"]) == (2, 2)
    assert done.figures["bytes"] == good.stat().st_size + bad.stat().st_size
    flip_byte(bad, 3000)
    with pytest.raises(Unverified) as caught:
        run_here("scrub", work)
    assert bad.name in str(caught.value)
    assert (caught.value.figures["intact"], caught.value.figures["damaged"]) == (1, 1)
    assert f"{good.name}: intact" in str(caught.value.figures["report"])
    assert states(target) == {good: "verified", bad: "failed"}
    assert counts(target, raw) == {"verified": 1, "unverified": 0, "failed": 1}
    assert "SHA-256" in read_manifest(manifest_path(bad)).damage


def test_a_scrub_dates_the_proof_and_a_repaired_copy_is_good_again(target: Target, work: ActionContext) -> None:
    path = backed_up(work)
    whole, before = path.read_bytes(), read_manifest(manifest_path(path)).verified_time
    run_here("scrub", work)
    after = read_manifest(manifest_path(path))
    assert after.verified_time is not None
    assert before is not None
    assert after.verified_time > before
    flip_byte(path, 3000)
    with pytest.raises(Unverified):
        run_here("scrub", work)
    path.write_bytes(whole)
    assert run_here("scrub", work).figures["intact"] == 1
    repaired = read_manifest(manifest_path(path))
    assert (repaired.damaged_time, repaired.damage) == (None, "")
    assert states(target) == {path: "verified"}


def test_a_copy_with_the_right_checksum_that_was_proved_bad_stays_failed(target: Target, work: ActionContext) -> None:
    """The checksum says only that it is as it was written."""
    path = backed_up(work)
    fields = read_manifest_fields(path)
    write_manifest_fields(path, {**fields, "row_counts": {**fields["row_counts"], "task_queue": 21}})
    assert by_hand(target, "verify").outcome == "unverified"
    assert states(target) == {path: "failed"}
    with pytest.raises(Unverified):
        run_here("scrub", work)
    assert states(target) == {path: "failed"}
    write_manifest_fields(path, fields)
    assert by_hand(target, "verify").outcome == "done"
    assert states(target) == {path: "verified"}


@pytest.mark.parametrize("cut", [0, 1, 4096])
def test_a_cut_copy_and_one_whose_manifest_cannot_be_read_are_reported_with_all_others(
    target: Target, work: ActionContext, cut: int
) -> None:
    short, torn, good = backed_up(work), backed_up(work), backed_up(work)
    os.truncate(short, cut)
    manifest_path(torn).write_text(manifest_path(torn).read_text()[:100])
    with pytest.raises(Unverified) as caught:
        run_here("scrub", work)
    assert (caught.value.figures["intact"], caught.value.figures["damaged"]) == (1, 2)
    assert states(target) == {short: "failed", torn: "failed", good: "verified"}


def test_a_rule_or_a_schedule_may_scrub_and_a_person_reads_the_report(target: Target, work: ActionContext) -> None:
    path = backed_up(work)
    assert by_rule(target, "scrub").outcome == "done"
    flip_byte(path, 3000)
    run = by_hand(target, "scrub")
    assert (run.outcome, run.reason) == ("unverified", "damaged")
    assert path.name in str(run.figures["report"])


def test_copies_of_others_are_not_read(target: Target, work: ActionContext) -> None:
    path = backed_up(work)
    foreign = path.with_name("queue-copy.db")
    foreign.write_bytes(b"cp")
    other = path.with_name("queue_backup_other_1.db")
    other.write_bytes(b"not this")
    write_manifest_fields(
        other, {**read_manifest_fields(path), "source": {**read_manifest_fields(path)["source"], "path": "/x"}}
    )
    assert run_here("scrub", work).figures["copies"] == 1
    assert states(target)[other] == "unverified"


def test_it_stops_between_two_blocks(work: ActionContext) -> None:
    """Asked to stop before the first block, it has read nothing and changed nothing."""
    path = backed_up(work)
    before = manifest_path(path).read_bytes()
    work.stop.request_stop()
    with pytest.raises(Cancelled):
        check_stored_copy(work, load_backup(work, str(path)))
    assert manifest_path(path).read_bytes() == before


@as_root
def test_a_copy_that_may_not_be_read_is_neither_damaged_nor_intact(queue: prismq.Queue, tmp_path: Path) -> None:
    """EACCES, of a real other user: the state stays, the run fails and names it."""
    queue.put("queued", 3)
    place = BackupSettings(tmp_path / "b", own_folder=False)
    target = target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))
    first, second = (Path(str(by_hand(target, "backup").figures["path"])) for _ in range(2))
    second.chmod(0)
    run = run_backups_command(target, "scrub", "--json", before=BOUND_ROOT)
    fields = json.loads(run.stdout)
    assert (fields["outcome"], fields["reason"]) == ("failed", "unreadable"), fields
    assert second.name in fields["message"]
    assert [fields["figures"][state] for state in ("intact", "unreadable", "damaged")] == [1, 1, 0]
    assert states(target) == {first: "verified", second: "verified"}


@as_root
def test_a_full_disk_and_a_read_only_one_leave_each_manifest_whole(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.put("queued", 3)
    with small_disk(tmp_path / "disk", 8) as disk:
        place = BackupSettings(disk, own_folder=False)
        target = target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))
        good, bad = (Path(str(by_hand(target, "backup").figures["path"])) for _ in range(2))
        flip_byte(bad, 9000)
        fill(disk, 0)
        run = by_hand(target, "scrub")
        assert (run.outcome, run.figures["damaged"], run.figures["intact"]) == ("unverified", 1, 1), run.message
        assert all(read_manifest(manifest_path(path)) for path in (good, bad))
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        run = by_hand(target, "scrub")
        assert (run.outcome, run.figures["damaged"], run.figures["not_recorded"]) == ("unverified", 1, 2), run.message
        assert "could not be written" in run.message


@as_root
def test_what_root_dates_stays_readable_for_the_application(queue: prismq.Queue, tmp_path: Path) -> None:
    queue.put("queued", 3)
    place = BackupSettings(tmp_path / "b", own_folder=False)
    target = target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))
    path = Path(str(by_hand(target, "backup").figures["path"]))
    os.chown(manifest_path(path), 12345, 12346)
    assert by_hand(target, "scrub").outcome == "done"
    status = manifest_path(path).stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 12346, 0o600)


def test_a_copy_that_a_person_unpacked_beside_it_takes_nothing_from_the_compressed_one(
    target: Target, work: ActionContext
) -> None:
    """Both names have one manifest, which describes one of them."""
    path = backed_up(work)
    other = path.with_suffix("") if path.suffix == ".zst" else path.with_name(path.name + ".zst")
    other.write_bytes(b"the other form")
    assert states(target) == {path: "verified", other: "unverified"}
    assert run_here("scrub", work).figures["copies"] == 1
    assert by_hand(target, "verify", backup=str(other)).outcome == "unverified"
    assert states(target) == {path: "verified", other: "unverified"}
