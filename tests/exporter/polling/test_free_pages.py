"""The fewest free pages of each hour are written to the state store: with few writes, without losses."""

from pathlib import Path

import apsw
import pytest

from actions.model.context import FreePageMinimum
from actions.store.database import history_file, state_store
from actions.store.free_pages import HOUR, RETENTION_SECONDS, load_free_page_minimums, record_free_pages
from collectors.storage import FREE_PAGES
from exporter.polling.free_pages import WRITE_EVERY, FreePageRecorder
from tests.support.scenes.exporter_state import snapshot

START = 500_000 * HOUR


def look(watch: FreePageRecorder, at: float, pages: int | None, database: str = "jobs") -> None:
    watch.on_snapshot(snapshot(database, at, () if pages is None else (FREE_PAGES(pages),)))


def lows(state: Path, database: str = "jobs") -> dict[int, int]:
    with state_store(state) as store:
        return {low.hour - 500_000: low.pages for low in load_free_page_minimums(store, database)}


def test_the_fewest_pages_of_each_hour_are_kept(tmp_path: Path) -> None:
    watch = FreePageRecorder(tmp_path)
    for minute, pages in enumerate((50, 40, 7, 90, 60)):
        look(watch, START + 60 * minute, pages)
    look(watch, START + HOUR - 1, 5)
    look(watch, START + HOUR + 1, 80)
    watch.write(START + HOUR + 2)
    assert lows(tmp_path) == {0: 5, 1: 80}


def test_it_writes_once_in_a_while_for_all_databases_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from exporter.polling import free_pages

    written: list[int] = []
    write = record_free_pages
    monkeypatch.setattr(
        free_pages, "record_free_pages", lambda store, new, now: (written.append(len(new)), write(store, new, now))
    )
    watch = FreePageRecorder(tmp_path)
    for step in range(100):
        for number in range(10):
            look(watch, START + step * 15, 1000 - step, f"db{number}")
    assert written[0] == 1, "at once after the start"
    assert len(written) == 1 + int(99 * 15 // WRITE_EVERY)
    assert written[-1] == 10
    look(watch, START + 1500 + WRITE_EVERY, 5000, "db0")
    assert len(written) == 2 + int(99 * 15 // WRITE_EVERY)
    look(watch, START + 1500 + 2 * WRITE_EVERY, 5000, "db0")
    assert len(written) == 2 + int(99 * 15 // WRITE_EVERY), "nothing new is not written"


def test_what_could_not_be_read_is_no_zero(tmp_path: Path) -> None:
    watch = FreePageRecorder(tmp_path)
    look(watch, START, None)
    watch.write(START)
    assert not history_file(tmp_path).exists()


def test_old_hours_are_forgotten_and_an_earlier_low_stays(tmp_path: Path) -> None:
    with state_store(tmp_path) as store:
        record_free_pages(store, {("jobs", 500_000): 5, ("jobs", 499_000): 1}, START)
        record_free_pages(store, {("jobs", 500_000): 9}, START)
        assert load_free_page_minimums(store, "jobs") == (FreePageMinimum(500_000, 5),)
        record_free_pages(store, {("other", 500_000): 3}, START + RETENTION_SECONDS + 2 * HOUR)
        assert load_free_page_minimums(store, "jobs") == ()


def test_what_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.write_text("no directory")
    watch = FreePageRecorder(state)
    look(watch, START, 50)
    look(watch, START + 1, 20)
    state.unlink()
    watch.write(START + 2)
    assert lows(state) == {0: 20}


def test_a_history_of_the_version_before_gets_the_new_tables(tmp_path: Path) -> None:
    with state_store(tmp_path) as store:
        store.execute("DROP TABLE free_low; DROP TABLE integrity; PRAGMA user_version=1").fetchall()
        store.execute("INSERT INTO setting VALUES ('kept', '1')")
    with state_store(tmp_path) as store:
        record_free_pages(store, {("jobs", 500_000): 5}, START)
        assert store.execute("SELECT value FROM setting WHERE name = 'kept'").get == "1"
        assert isinstance(store, apsw.Connection)
