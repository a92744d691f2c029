"""Which rows can be rows of a table where they are: order of keys, gaps, and what a whole index knows."""

from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actions.salvaging.choose_rows import ascending_positions, bound_pages
from tests.actions.salvaging.test_formats import salvage


def kept(pages: list[list[int]]) -> list[list[int]]:
    bounds = bound_pages(pages)
    return [
        [] if bound is None else [rowid for rowid in rowids if bound.admits(rowid)]
        for rowids, bound in zip(pages, bounds, strict=True)
    ]


def chosen(rowids: list[int]) -> list[int]:
    return [rowids[position] for position in ascending_positions(rowids)]


class TestOnePage:
    def test_a_changed_key_is_left_out(self) -> None:
        assert chosen([1, 2, 99, 4, 5]) == [1, 2, 4, 5]

    def test_of_two_rows_with_one_key_the_one_stays_where_the_key_has_room(self) -> None:
        assert ascending_positions([1, 2, 4, 4, 5]) == [0, 1, 3, 4]

    def test_at_the_end_the_smaller_jump_is_believed(self) -> None:
        assert chosen([1, 2, 3, 9, 5]) == [1, 2, 3, 5]

    @given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), unique=True, max_size=40).map(sorted), st.data())
    def test_one_changed_key_never_costs_more_than_one_right_row(self, keys: list[int], data: st.DataObject) -> None:
        if not keys:
            return
        position = data.draw(st.integers(0, len(keys) - 1))
        changed = [*keys]
        changed[position] = data.draw(st.integers(-(1 << 63), (1 << 63) - 1))
        assert len(set(chosen(changed)) & set(keys)) >= len(keys) - 2


class TestPages:
    def test_pages_in_order_are_whole(self) -> None:
        assert kept([[1, 2], [3, 4], [9]]) == [[1, 2], [3, 4], [9]]

    def test_a_large_key_in_a_large_page_does_not_cost_the_pages_after_it(self) -> None:
        assert kept([[1, 2, 3, 4, 99], [6, 7, 8]]) == [[1, 2, 3, 4], [6, 7, 8]]

    def test_swapped_pages_are_both_given_back(self) -> None:
        assert kept([[1, 2], [7, 8], [5, 6], [3, 4], [9, 10]]) == [[1, 2], [7, 8], [5, 6], [3, 4], [9, 10]]

    def test_neighbours_that_are_swapped_are_both_given_back(self) -> None:
        assert kept([[1, 2], [4, 5], [3], [6, 7]]) == [[1, 2], [4, 5], [3], [6, 7]]

    def test_a_page_with_keys_that_others_have_is_of_another_table(self) -> None:
        assert kept([[1, 2, 3, 4, 5, 6], [3, 4, 5], [8, 9, 10]])[1] == []

    @given(st.lists(st.lists(st.integers(0, 1000), max_size=8), max_size=12))
    def test_whatever_the_keys_are_each_page_gets_an_answer(self, pages: list[list[int]]) -> None:
        assert len(bound_pages(pages)) == len(pages)


def make_dense(path: Path) -> None:
    owner = apsw.Connection(str(path))
    owner.execute("CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT, y INT); CREATE INDEX ax ON a (x)").fetchall()
    owner.execute("CREATE TABLE b (id INTEGER PRIMARY KEY, x TEXT, y INT, z INT); CREATE INDEX bx ON b (x)").fetchall()
    with owner:
        owner.executemany("INSERT INTO a VALUES (?, ?, 0)", ((n, f"a{n}") for n in range(1, 101)))
        owner.executemany("INSERT INTO b VALUES (?, ?, 0, 0)", ((n, f"b{n}") for n in range(5001, 5101)))
    owner.close()


def rowids(path: Path, table: str) -> list[int]:
    database = apsw.Connection(str(path))
    try:
        return [int(row[0]) for row in database.execute(f"SELECT id FROM {table} NOT INDEXED ORDER BY id")]
    finally:
        database.close()


def test_a_changed_key_at_the_end_of_a_table_is_not_given_out_where_an_index_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make_dense(path)
    content = bytearray(path.read_bytes())
    position = content.rfind(bytes([100]), 0, content.find(b"a100"))
    content[position] = 120  # the rowid
    path.write_bytes(content)
    rebuilt = salvage(path, tmp_path / "b.db")
    assert rowids(tmp_path / "b.db", "a") == list(range(1, 100))
    assert rebuilt.apart == 1


@pytest.mark.parametrize("table", ["a", "b"])
def test_rows_of_a_table_whose_root_was_exchanged_are_not_rows_of_the_other(tmp_path: Path, table: str) -> None:
    path = tmp_path / "a.db"
    make_dense(path)
    owner = apsw.Connection(str(path))
    roots = dict(owner.execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'").fetchall())
    owner.close()
    content = bytearray(path.read_bytes())
    first, second = ((root - 1) * 4096 for root in (roots["a"], roots["b"]))
    content[first : first + 4096], content[second : second + 4096] = (
        content[second : second + 4096],
        content[first : first + 4096],
    )
    path.write_bytes(content)
    rebuilt = salvage(path, tmp_path / "b.db")
    assert rowids(tmp_path / "b.db", table) == []
    assert rebuilt.apart == 200
