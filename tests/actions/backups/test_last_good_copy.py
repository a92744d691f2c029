"""The last good copy: whatever disks, persons and clocks did to a folder of backups, a prune leaves an intact one.

And it is the one that a restore takes. Checked over random damage, clocks and retention, on real files; whether a copy is
intact is decided here by its bytes, against those that were written.
"""

import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actions.model.context import ActionContext
from actions.model.errors import ActionError, NothingToDo, Unverified
from collectors.access.connection import open_immutable
from collectors.backup_catalog.local_directory import manifest_path
from collectors.backup_catalog.store import find_backups
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, RetentionCounts, Target
from tests.support.scenes import prismq
from tests.support.scenes.backup_damage import flip_byte, read_manifest_fields, write_manifest_fields
from tests.support.scenes.run_actions import target_of
from tests.support.scenes.run_in_process import run_here, work_on

DAY = 86400.0
COPIES = 6


@dataclass
class BackupFolder:
    """Copies that were made one after the other, oldest first, and their right bytes by the number of rows in each."""

    target: Target
    raw: RawReader
    copies: list[Path]
    whole: Mapping[bytes, int] = field(default_factory=dict, repr=False)

    def work(self, ahead: float = 0.0, **options: object) -> ActionContext:
        """What an action gets whose clock is `ahead` seconds ahead."""
        return replace(work_on(self.target, self.raw, **options), now=lambda: time.time() + ahead)

    def intact(self, *, safety: bool = False) -> list[int]:
        """The rows of each verified copy that holds what was written for its manifest, in ascending order.

        `safety`: of the copies that were taken before a restore, which a restore never takes unasked; else of the others.
        """
        good = []
        for backup in find_backups(self.target):
            rows = self.whole.get(Path(backup.reference).read_bytes())
            manifest = backup.manifest
            if (
                backup.state == "verified"
                and rows is not None
                and manifest is not None
                and (manifest.kind == "safety") == safety
            ):
                good += [rows] if manifest.row_counts["task_queue"] == rows else []
        return sorted(good)

    def restored_rows(self, ahead: float) -> int:
        """What a restore without a name brings. Raises ActionError."""
        there = self.target.path.with_name("restored.db")
        there.unlink(missing_ok=True)
        run_here("restore", self.work(ahead, to=str(there)))
        with open_immutable(there) as content:
            return int(str(content.execute("SELECT count(*) FROM task_queue").get))


@pytest.fixture(scope="module")
def raw() -> Iterator[RawReader]:
    with RawReader() as reader:
        yield reader


@pytest.fixture(scope="module", params=["none", "zstd"])
def written(raw: RawReader, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> BackupFolder:
    """Copies with 1, 2, 3, ... rows."""
    folder = tmp_path_factory.mktemp("last-good")
    queue = prismq.create(folder / "queue.db", "wal", 4096)
    place = BackupSettings(folder / "written", compress=request.param, own_folder=False)
    target = target_of(queue.path, backup=place, limits=Limits(disk_reserve=0))
    made = []
    for _ in range(COPIES):
        queue.put("queued", 1)
        made.append(Path(str(run_here("backup", work_on(target, raw)).figures["path"])))
    return BackupFolder(target, raw, made, {path.read_bytes(): rows for rows, path in enumerate(made, 1)})


def lay_out(written: BackupFolder) -> BackupFolder:
    """A folder of its own with all the copies."""
    assert written.target.backup is not None
    place = written.target.path.with_name("backups")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(written.target.backup.directory, place)
    target = replace(written.target, backup=replace(written.target.backup, directory=place))
    return BackupFolder(target, written.raw, [place / path.name for path in written.copies], written.whole)


def flip_bits(path: Path, _other: Path, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 4) if path.stat().st_size else 0):
        flip_byte(path, chance.randrange(1 << 30))


def zero_run(path: Path, _other: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = chance.randrange(len(data) + 1)
    data[start : start + 512] = b"\0" * len(data[start : start + 512])
    path.write_bytes(data)


def cut_short(path: Path, _other: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size + 1)])


def tear_manifest(path: Path, _other: Path, chance: random.Random) -> None:
    if manifest_path(path).exists():
        manifest_path(path).write_text(manifest_path(path).read_text()[: chance.randrange(400)])


def give_manifest_of_another(path: Path, other: Path, _chance: random.Random) -> None:
    if path != other and manifest_path(other).exists():
        shutil.copyfile(manifest_path(other), manifest_path(path))


def exchange_files(one: Path, two: Path) -> None:
    if one != two and one.exists() and two.exists():
        aside = one.with_name("aside")
        one.replace(aside)
        two.replace(one)
        aside.replace(two)


def exchange_with_manifests(path: Path, other: Path, _chance: random.Random) -> None:
    exchange_files(path, other)
    exchange_files(manifest_path(path), manifest_path(other))


DAMAGES: Mapping[str, Callable[[Path, Path, random.Random], object]] = {
    "bits": flip_bits,
    "zeros": zero_run,
    "cut": cut_short,
    "longer": lambda path, _other, _chance: path.write_bytes(path.read_bytes() + b"\0"),
    "emptied": lambda path, _other, _chance: path.write_bytes(b""),
    "swapped": lambda path, other, _chance: exchange_files(path, other),
    "swapped with manifests": exchange_with_manifests,
    "torn manifest": tear_manifest,
    "manifest of another": give_manifest_of_another,
    "no manifest": lambda path, _other, _chance: manifest_path(path).unlink(missing_ok=True),
}


def set_clock(folder: BackupFolder, at: int, ahead: float, *, counted: bool) -> None:
    """As if this copy had been taken while the clock was wrong; `counted`: by a version that numbers backups."""
    fields = read_manifest_fields(folder.copies[at])
    if counted:
        for name in ("snapshot_time", "finished_time", "verified_time"):
            fields[name] += ahead
    else:
        del fields["sequence"]
    write_manifest_fields(folder.copies[at], fields)


CLOCKS = st.sampled_from([0.0, 0.0, -400 * DAY, -DAY, -3600.0, 3600.0, DAY, 200 * DAY])
HISTORIES = st.fixed_dictionaries({
    "clocks": st.lists(CLOCKS, min_size=COPIES, max_size=COPIES),
    "uncounted": st.integers(0, COPIES),
    "safety": st.sets(st.integers(0, COPIES - 1)),
    "damages": st.lists(st.tuples(st.integers(0, COPIES - 1), st.sampled_from(sorted(DAMAGES))), max_size=COPIES + 2),
    "keep": st.builds(RetentionCounts, *[st.integers(0, 2)] * 5),
    "keep_last": st.one_of(st.none(), st.integers(1, 3)),
    "now": CLOCKS,
    "seed": st.integers(0, 2**32),
})  # fmt: skip


def check_history(written: BackupFolder, history: Mapping[str, object]) -> None:
    folder = lay_out(written)
    chance = random.Random(int(str(history["seed"])))
    clocks, uncounted, now = list(history["clocks"]), int(str(history["uncounted"])), float(str(history["now"]))  # type: ignore[call-overload]
    for at in range(COPIES):
        set_clock(folder, at, clocks[at], counted=at >= uncounted)
        if at in history["safety"]:  # type: ignore[operator]
            write_manifest_fields(folder.copies[at], {**read_manifest_fields(folder.copies[at]), "kind": "safety"})
    for at, how in history["damages"]:  # type: ignore[attr-defined]
        DAMAGES[how](folder.copies[at], folder.copies[chance.randrange(COPIES)], chance)
    keep = history["keep"]
    assert isinstance(keep, RetentionCounts)
    assert folder.target.backup is not None
    folder.target = replace(folder.target, backup=replace(folder.target.backup, keep=keep))
    before = folder.intact()
    any_before = bool(before or folder.intact(safety=True))
    options = {} if history["keep_last"] is None else {"keep_last": history["keep_last"]}
    with suppress(NothingToDo, Unverified):
        run_here("prune", folder.work(now, **options))
    after = folder.intact()
    assert bool(after) == bool(before)
    assert bool(after or folder.intact(safety=True)) == any_before
    if before:
        assert max(after) == max(before)
        assert folder.restored_rows(now) == max(before)
    else:
        with pytest.raises(ActionError):
            folder.restored_rows(now)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_as_long_as_one_intact_copy_exists_one_remains_and_a_restore_takes_it(
    written: BackupFolder, history: Mapping[str, object]
) -> None:
    check_history(written, history)


@pytest.mark.soak
@settings(max_examples=3000, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_as_long_as_one_intact_copy_exists_one_remains_and_a_restore_takes_it_3000_times(
    written: BackupFolder, history: Mapping[str, object]
) -> None:
    check_history(written, history)
