"""Which backup is newer: by its sequence; a clock that was wrong never decides."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from collectors.backup_catalog.catalog import Backup, BackupState
from collectors.backup_catalog.manifest import BackupSource, Manifest
from collectors.backup_catalog.order import (
    CLOCK_TOLERANCE,
    believed_snapshot_time,
    is_future_time,
    newest_verified,
    order_newest_first,
)

NOW = 1_790_000_000.0
DAY = 86400.0
SOURCE = BackupSource("/db", 1, 2, "db")


def backup(
    name: str, age: float, sequence: int | None, state: BackupState = "verified", kind: str = "manual"
) -> Backup:
    moment = NOW - age
    manifest = Manifest(
        *(SOURCE, moment, moment, kind, 1, 512, 1, "0" * 64, {}, "0" * 64, "none", "3", "1"), sequence=sequence
    )
    return Backup(name, f"/b/{name}", 1, moment, state, manifest)


def names(backups: list[Backup]) -> list[str]:
    return [each.name for each in backups]


def test_a_sequence_decides_whatever_the_clock_said() -> None:
    future, back = backup("future", -200 * DAY, 1), backup("back", 900 * DAY, 3)
    assert names(order_newest_first([future, backup("middle", 5, 2), back], NOW)) == ["back", "middle", "future"]
    assert newest_verified([future, back], NOW) is back


def test_one_without_a_sequence_is_older_and_one_from_the_future_is_the_oldest() -> None:
    old = [backup("old", 9 * DAY, None), backup("older", 10 * DAY, None), backup("future", -DAY, None)]
    assert names(order_newest_first([*old, backup("counted", 20 * DAY, 1)], NOW)) == [
        *("counted", "old", "older", "future")
    ]
    foreign = Backup("cp.db", "/b/cp.db", 1, NOW - 8 * DAY, "unverified", None)
    assert names(order_newest_first([*old, foreign], NOW))[0] == "cp.db"


def test_an_age_is_never_taken_from_a_time_in_the_future() -> None:
    future, old = backup("future", -200 * DAY, 2), backup("old", 30 * DAY, 1)
    assert believed_snapshot_time([future, old], NOW) == old.snapshot_time
    assert believed_snapshot_time([future], NOW) is None
    assert believed_snapshot_time([], NOW) is None


def test_a_clock_that_is_ahead_by_less_than_the_tolerance_is_no_other_clock() -> None:
    assert not is_future_time(NOW + CLOCK_TOLERANCE, NOW)
    assert is_future_time(NOW + CLOCK_TOLERANCE + 1, NOW)


def test_safety_copies_and_what_is_not_verified_are_never_the_newest() -> None:
    good = backup("good", DAY, 1)
    others = [backup("safety", 1, 4, kind="safety"), backup("failed", 1, 3, "failed"), backup("un", 1, 2, "unverified")]
    assert newest_verified([*others, good], NOW) is good


STORES = st.lists(
    st.tuples(st.floats(-400 * DAY, 400 * DAY), st.one_of(st.none(), st.integers(1, 6))), max_size=12
).map(lambda pairs: [backup(f"b{i}", age, sequence) for i, (age, sequence) in enumerate(pairs)])


@given(STORES, st.randoms())
def test_the_order_is_total_and_does_not_depend_on_how_they_are_listed(store: list[Backup], chance: object) -> None:
    shuffled = list(store)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    ordered = order_newest_first(store, NOW)
    assert names(order_newest_first(shuffled, NOW)) == names(ordered)
    counted = [each.manifest.sequence for each in ordered if each.manifest and each.manifest.sequence is not None]
    assert counted == sorted(counted, reverse=True)
    assert names(ordered[: len(counted)]) == names(
        [b for b in ordered if b.manifest and b.manifest.sequence is not None]
    )


@given(STORES, st.floats(-400 * DAY, 400 * DAY))
def test_no_clock_makes_another_one_the_newest_of_those_that_are_counted(store: list[Backup], moved: float) -> None:
    def first(backups: list[Backup]) -> int | None:
        newest = newest_verified(backups, NOW)
        return None if newest is None or newest.manifest is None else newest.manifest.sequence

    def moved_by(each: Backup) -> Backup:
        assert each.manifest is not None
        return replace(each, manifest=replace(each.manifest, snapshot_time=each.manifest.snapshot_time + moved))

    assert first([moved_by(each) for each in store]) == first(store)
