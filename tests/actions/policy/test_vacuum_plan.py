"""Whether a vacuum is worth it, and which one: by the free pages, now and over time. Pure."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.model.context import FreePageMinimum
from actions.policy.vacuum_plan import (
    MAX_BATCH_SECONDS,
    FilePages,
    LastingFreePages,
    VacuumChoice,
    choose_vacuum,
    lasting_free_pages,
    missing_bytes,
)

HOUR = 3600.0
NOW = 480_000 * HOUR + 1800.0
DAY = 24 * HOUR
GIB = 1024**3
RATE = 100e6


def hours(*lows: int, until: int = 480_000) -> list[FreePageMinimum]:
    """One low for each hour, the last one in the hour `until`."""
    return [FreePageMinimum(until - len(lows) + 1 + number, pages) for number, pages in enumerate(lows)]


def file(free: int, pages: int = 262_144, auto_vacuum: str = "none") -> FilePages:
    return FilePages(4096, pages, free, auto_vacuum)  # type: ignore[arg-type]


def test_what_is_filled_again_every_night_does_not_stay_free() -> None:
    by_hour = [200_000 if 2 <= hour < 20 else 500 for hour in range(24)]
    measured = lasting_free_pages(hours(*by_hour), 200_000, NOW, DAY)
    assert measured.pages == 500
    for auto_vacuum in ("none", "incremental"):
        choice = choose_vacuum(
            file(200_000, auto_vacuum=auto_vacuum), measured, RATE, careful=True, only_incremental=False
        )
        assert choice.way == "nothing"
        assert "200000 of 262144 pages are free, 500 of them have been" in choice.why
        assert "filled again" in choice.why


def test_what_was_used_again_within_the_span_counts_however_short_it_was() -> None:
    lows = hours(*[200_000] * 10, 7, *[200_000] * 13)
    assert lasting_free_pages(lows, 200_000, NOW, DAY).pages == 7
    assert lasting_free_pages(lows, 200_000, NOW, 6 * HOUR).pages == 200_000


def test_the_hour_in_which_the_span_begins_counts_and_so_does_the_one_that_runs() -> None:
    begins = 480_000 - 24
    assert lasting_free_pages([FreePageMinimum(begins, 7)], 9, NOW, DAY).pages == 7
    assert lasting_free_pages([FreePageMinimum(begins - 1, 7)], 9, NOW, DAY).pages == 9
    assert lasting_free_pages([FreePageMinimum(480_000, 7)], 9, NOW, DAY) == LastingFreePages(7, 1800.0)
    assert lasting_free_pages([FreePageMinimum(480_001, 7)], 9, NOW, DAY) == LastingFreePages(9, 0.0), (
        "of a clock that was wrong"
    )


def test_an_hour_that_was_only_just_begun_need_not_be_remembered_yet() -> None:
    assert lasting_free_pages([FreePageMinimum(479_999, 9)], 9, NOW, DAY) == LastingFreePages(9, HOUR + 1800.0)


def test_a_gap_ends_what_is_known() -> None:
    whole = lasting_free_pages(hours(*[9] * 30), 9, NOW, DAY)
    assert whole.watched == DAY
    one_missing = [low for low in hours(*[9] * 30) if low.hour != 479_990]
    assert lasting_free_pages(one_missing, 9, NOW, DAY).watched == DAY
    two_missing = [low for low in one_missing if low.hour != 479_991]
    assert lasting_free_pages(two_missing, 9, NOW, DAY).watched == 8 * HOUR + 1800
    assert lasting_free_pages(hours(9, until=479_000), 9, NOW, DAY) == LastingFreePages(9, 0.0)
    assert lasting_free_pages([], 9, NOW, DAY) == LastingFreePages(9, 0.0)


@given(
    st.dictionaries(st.integers(479_960, 480_000), st.integers(0, 1000)),
    st.integers(0, 1000),
    st.floats(0, 40 * HOUR),
)
def test_it_never_claims_more_than_was_seen(seen: dict[int, int], free: int, span: float) -> None:
    measured = lasting_free_pages(
        [FreePageMinimum(hour, pages) for hour, pages in sorted(seen.items())], free, NOW, span
    )
    inside = [pages for hour, pages in seen.items() if hour >= (NOW - span) // HOUR]
    assert measured.pages == min([free, *inside])
    assert 0 <= measured.watched <= span
    begun = (NOW - measured.watched) // HOUR
    unseen = [hour for hour in range(int(begun) + 1, 480_000) if hour not in seen]
    assert all(later - earlier > 1 for earlier, later in pairwise(unseen)), "a gap of two hours"


def test_an_incremental_vacuum_takes_what_stays_and_leave_the_rest_for_the_queue() -> None:
    choice = choose_vacuum(
        file(200_000, auto_vacuum="incremental"),
        LastingFreePages(120_000, DAY),
        RATE,
        careful=True,
        only_incremental=False,
    )
    assert (choice.way, choice.pages, choice.stall) == ("incremental", 120_000, MAX_BATCH_SECONDS)
    assert choice.stall < 0.05, "within limits.write_lock"
    assert choice.gives_back == 120_000 * 4096


def test_a_full_vacuum_is_planned_with_its_stall() -> None:
    choice = choose_vacuum(file(131_072), LastingFreePages(131_072, DAY), RATE, careful=True, only_incremental=False)
    assert choice.way == "full"
    assert choice.stall == pytest.approx(GIB / 2 / RATE)
    assert choice.gives_back == GIB / 2


def test_an_automatic_run_needs_a_tenth_of_the_file_and_a_person_any_page() -> None:
    little = file(20_000)
    assert (
        choose_vacuum(little, LastingFreePages(20_000, DAY), RATE, careful=True, only_incremental=False).way
        == "nothing"
    )
    assert (
        choose_vacuum(little, LastingFreePages(20_000, DAY), RATE, careful=False, only_incremental=False).way == "full"
    )
    small = file(200, pages=400)
    assert (
        choose_vacuum(small, LastingFreePages(200, DAY), RATE, careful=True, only_incremental=False).way == "nothing"
    ), "less than 1 MiB"
    assert (
        choose_vacuum(file(2000), LastingFreePages(2000, DAY), RATE, careful=False, only_incremental=False).way
        == "nothing"
    )
    incremental = choose_vacuum(
        file(1, auto_vacuum="incremental"), LastingFreePages(1, DAY), RATE, careful=False, only_incremental=False
    )
    assert incremental.way == "incremental"
    assert choose_vacuum(file(0), LastingFreePages(0, DAY), RATE, careful=False, only_incremental=False).why.startswith(
        "none of"
    )


@pytest.mark.parametrize(
    ("free", "pages", "careful", "auto_vacuum", "way"),
    [
        (256, 512, True, "incremental", "incremental"),  # 1 MiB
        (255, 512, True, "incremental", "nothing"),
        (4000, 40_000, True, "none", "full"),  # a tenth
        (3999, 40_000, True, "none", "nothing"),
        (400, 40_000, False, "none", "full"),  # a hundredth
        (399, 40_000, False, "none", "nothing"),
    ],
)
def test_what_is_just_worth_it(free: int, pages: int, careful: bool, auto_vacuum: str, way: str) -> None:
    measured = file(free, pages, auto_vacuum)
    choice = choose_vacuum(measured, LastingFreePages(free, DAY), RATE, careful=careful, only_incremental=False)
    assert choice.way == way


def test_what_is_not_done_gives_nothing_back_and_stops_no_writer() -> None:
    why = "2000 of 262144 pages are free, 2000 of them have been for 24 hours: too few to be worth it"
    choice = choose_vacuum(file(2000), LastingFreePages(2000, DAY), RATE, careful=True, only_incremental=False)
    assert choice == VacuumChoice("nothing", why, pages=0, gives_back=0, stall=0.0)
    full = choose_vacuum(file(131_072), LastingFreePages(131_072, DAY), RATE, careful=True, only_incremental=False)
    assert full.pages == 0, "it frees them all, not so many"


def test_missing_space_is_given_in_bytes() -> None:
    assert missing_bytes(100, 50, 150) == 0
    assert missing_bytes(100, 50, 149) == 1
    assert missing_bytes(100, 50, 0) == 150


def test_without_records_only_the_pages_free_now_are_named() -> None:
    choice = choose_vacuum(file(2000), LastingFreePages(2000, 0.0), RATE, careful=True, only_incremental=False)
    assert choice.why == "2000 of 262144 pages are free: too few to be worth it"
    refilled = choose_vacuum(file(2000), LastingFreePages(10, 0.0), RATE, careful=True, only_incremental=False)
    assert refilled.why == "2000 of 262144 pages are free, and at times only 10: the others are filled again"
