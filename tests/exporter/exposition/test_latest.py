"""The newest snapshots are those of watched databases only."""

from dataclasses import replace
from pathlib import Path

from exporter.exposition.latest import max_reading_age
from tests.support.scenes.exporter_state import NOW, board, snapshot, target


def test_it_is_ready_when_every_database_was_polled_once() -> None:
    shown = board(snapshot("a"), names=("a", "b"))
    assert not shown.all_databases_polled()
    shown.store_snapshot(snapshot("b"))
    assert shown.all_databases_polled()


def test_a_reading_of_a_database_that_is_no_longer_watched_is_refused() -> None:
    shown = board(names=("a",))
    shown.set_targets([])
    assert not shown.store_snapshot(snapshot("a"))
    assert shown.newest_snapshot("a") is None


def test_another_file_of_the_same_name_does_not_inherit_the_reading() -> None:
    shown = board(snapshot("a"), names=("a",))
    shown.set_targets([replace(target("a"), path=Path("/elsewhere/a.db"))])
    assert shown.newest_snapshot("a") is None
    assert not shown.store_snapshot(snapshot("a"))


def test_a_view_does_not_change_when_the_board_does() -> None:
    shown = board(snapshot("a"), names=("a",))
    view = shown.view_at(NOW, 15.0)
    shown.set_targets([])
    assert set(view.fresh) == {"a"}


def test_readings_live_for_three_polls_and_at_least_a_minute() -> None:
    assert (max_reading_age(5), max_reading_age(20), max_reading_age(60)) == (60, 60, 180)


def test_the_last_success_survives_a_poll_that_failed() -> None:
    shown = board(snapshot("a", at=NOW), names=("a",))
    shown.store_snapshot(replace(snapshot("a", at=NOW + 15), up=False, state="missing"))
    view = shown.view_at(NOW + 15, 15.0)
    assert view.last_success == {"a": NOW}
    assert view.database_state("a") == "missing"


def test_a_clock_that_was_set_back_does_not_keep_an_old_reading_alive() -> None:
    view = board(snapshot("a", at=NOW), names=("a",)).view_at(NOW - 3600, 15.0)
    assert (view.database_state("a"), dict(view.fresh)) == ("stale", {})
