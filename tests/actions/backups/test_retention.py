"""Which backups stay: a pure decision, checked over random histories."""

from hypothesis import given
from hypothesis import strategies as st

from actions.backups.retention import RetentionCandidate, decide_retention
from collectors.target import RetentionCounts

NOW = 1_790_000_000.0
HOUR, DAY = 3600.0, 86400.0


def good(name: str, age: float, kind: str = "scheduled") -> RetentionCandidate:
    return RetentionCandidate(name, NOW - age, "verified", kind, own=True)


def test_the_last_n_stay() -> None:
    candidates = [good(f"b{i}", i * 60.0) for i in range(5)]
    decision = decide_retention(candidates, RetentionCounts(2, 0, 0, 0, 0), NOW)
    assert decision.to_delete == ("b4", "b3", "b2")


def test_the_newest_of_each_day_stays() -> None:
    candidates = [good(f"day{d}-{h}", d * DAY + h * HOUR) for d in range(4) for h in (0, 1)]
    decision = decide_retention(candidates, RetentionCounts(0, 0, 3, 0, 0), NOW)
    assert set(decision.keep_reasons) == {"day0-0", "day1-0", "day2-0"}


def test_a_week_and_a_month_reach_further_back_than_days() -> None:
    candidates = [good(f"d{d}", d * DAY) for d in range(90)]
    decision = decide_retention(candidates, RetentionCounts(0, 0, 2, 3, 3), NOW)
    assert len(decision.keep_reasons) <= 8
    assert max(int(name[1:]) for name in decision.keep_reasons) > 30


def test_only_an_empty_keep_leaves_the_newest_verified_alone() -> None:
    decision = decide_retention([good("a", 10), good("b", 20)], RetentionCounts(0, 0, 0, 0, 0), NOW)
    assert decision.keep_reasons == {"a": ("newest verified",)}


def test_a_newer_corrupt_one_does_not_count_as_the_newest() -> None:
    bad = RetentionCandidate("bad", NOW - 1, "failed", "scheduled", own=True)
    decision = decide_retention([bad, good("a", 10), good("b", 20)], RetentionCounts(0, 0, 0, 0, 0), NOW)
    assert decision.to_delete == ("b",)


def test_safety_copies_have_their_own_rule_and_displace_no_backup() -> None:
    ages = {"young": DAY, "month": 30 * DAY, "old": 30 * DAY + 1}
    safety = [good(name, age, "safety") for name, age in ages.items()]
    decision = decide_retention([*safety, good("a", 5), good("b", 6)], RetentionCounts(2, 0, 0, 0, 0), NOW)
    assert set(decision.keep_reasons) == {"young", "month", "a", "b"}


def test_the_newest_safety_copy_stays_however_old_it_is() -> None:
    copies = [good("old", 90 * DAY, "safety"), good("older", 91 * DAY, "safety")]
    assert decide_retention(copies, RetentionCounts(2, 0, 0, 0, 0), NOW).keep_reasons == {
        "old": ("newest safety copy",)
    }


def test_a_backup_from_the_future_stays_and_displaces_no_backup() -> None:
    decision = decide_retention([good("future", -DAY), good("a", 5)], RetentionCounts(1, 0, 0, 0, 0), NOW)
    assert set(decision.keep_reasons) == {"future", "a"}


candidates = st.lists(
    st.builds(
        RetentionCandidate,
        name=st.uuids().map(str),
        snapshot_time=st.floats(NOW - 400 * DAY, NOW + 10 * DAY),
        state=st.sampled_from(["verified", "unverified", "failed"]),
        kind=st.sampled_from(["scheduled", "manual", "safety"]),
        own=st.booleans(),
    ),
    max_size=40,
)
keeps = st.builds(RetentionCounts, *[st.integers(0, 5)] * 5)


@given(candidates, keeps)
def test_a_verified_backup_survives_if_one_was_ever_made(
    candidates: list[RetentionCandidate], keep: RetentionCounts
) -> None:
    decision = decide_retention(candidates, keep, NOW)
    ordinary = [
        backup for backup in candidates if backup.own and backup.state == "verified" and backup.kind != "safety"
    ]
    if ordinary:
        assert max(ordinary, key=lambda backup: (backup.snapshot_time, backup.name)).name in decision.keep_reasons


@given(candidates, keeps)
def test_only_proved_backups_of_this_database_are_ever_dropped(
    candidates: list[RetentionCandidate], keep: RetentionCounts
) -> None:
    dropped = set(decide_retention(candidates, keep, NOW).to_delete)
    for backup in candidates:
        if backup.name in dropped:
            assert backup.own
            assert backup.state == "verified"
            assert backup.snapshot_time <= NOW


@given(candidates, keeps, keeps)
def test_no_rule_deletes_what_another_keeps(
    candidates: list[RetentionCandidate], first: RetentionCounts, second: RetentionCounts
) -> None:
    both = RetentionCounts(*(max(a, b) for a, b in zip(_numbers(first), _numbers(second), strict=True)))
    both_keep = set(decide_retention(candidates, both, NOW).keep_reasons)
    assert set(decide_retention(candidates, first, NOW).keep_reasons) <= both_keep
    assert set(decide_retention(candidates, second, NOW).keep_reasons) <= both_keep


@given(candidates, keeps)
def test_every_backup_is_either_kept_with_a_reason_or_dropped(
    candidates: list[RetentionCandidate], keep: RetentionCounts
) -> None:
    decision = decide_retention(candidates, keep, NOW)
    assert set(decision.keep_reasons) | set(decision.to_delete) == {backup.name for backup in candidates}
    assert not set(decision.keep_reasons) & set(decision.to_delete)
    assert all(decision.keep_reasons.values())


@given(candidates, keeps)
def test_deciding_again_on_what_was_kept_drops_nothing_more(
    candidates: list[RetentionCandidate], keep: RetentionCounts
) -> None:
    decision = decide_retention(candidates, keep, NOW)
    remaining = [backup for backup in candidates if backup.name in decision.keep_reasons]
    assert decide_retention(remaining, keep, NOW).to_delete == ()


def _numbers(keep: RetentionCounts) -> tuple[int, ...]:
    return (keep.last, keep.hourly, keep.daily, keep.weekly, keep.monthly)


def test_a_copy_of_lost_content_never_costs_a_good_one_its_place() -> None:
    day = 86400.0
    whole = [RetentionCandidate(f"whole{n}", n * day, "verified", "scheduled", True, n) for n in range(1, 4)]
    lossy = [
        RetentionCandidate(f"lossy{n}", n * day, "verified", "scheduled", True, n, lossy=True) for n in range(4, 60)
    ]
    decision = decide_retention(
        [*whole, *lossy], RetentionCounts(last=1, hourly=0, daily=0, weekly=0, monthly=0), 60 * day
    )
    assert set(decision.keep_reasons["whole3"]) == {"last", "newest verified"}
    assert {"whole1", "whole2", "lossy4"} <= set(decision.to_delete)
    assert "lossy59" in decision.keep_reasons, "it may have rows that came afterwards"
