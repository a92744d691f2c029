"""What only the application's SQLite has: collations, functions, tokenizers. Not checkable here is not "not proved"."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.model.outcome import Outcome
from collectors.backup_catalog.order import newest_verified
from collectors.backup_catalog.store import find_backups
from collectors.target import BackupSettings, Target
from tests.support.scenes.damage import damage, leaf_of
from tests.support.scenes.prismq import SCHEMA
from tests.support.scenes.run_actions import by_hand, target_of

CASES = {
    "collation of an index": "CREATE TABLE t (a); CREATE INDEX i ON t (a COLLATE ours)",
    "collation of a column": "CREATE TABLE t (a COLLATE ours, b); CREATE INDEX i ON t (a)",
    "collation of a primary key": "CREATE TABLE t (a COLLATE ours PRIMARY KEY, b) WITHOUT ROWID",
    "index on a function": "CREATE TABLE t (a); CREATE INDEX i ON t (shout(a))",
    "partial index": "CREATE TABLE t (a); CREATE INDEX i ON t (a) WHERE shout(a) <> 'q'",
    "generated column": "CREATE TABLE t (a, g AS (shout(a)) STORED, h AS (shout(a)) VIRTUAL); CREATE INDEX i ON t (h)",
    "check": "CREATE TABLE t (a CHECK (shout(a) <> 'x'))",
    "view and trigger": "CREATE TABLE t (a); CREATE VIEW v AS SELECT shout(a) FROM t; "
    "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT shout(new.a); END",
    "tokenizer": "CREATE TABLE t (a); CREATE VIRTUAL TABLE f USING fts5 (x, tokenize='ours'); "
    "INSERT INTO f VALUES ('hello world')",
    "module": "CREATE TABLE t (a); CREATE VIRTUAL TABLE m USING ourmodule()",
}
UNCHECKED = dict.fromkeys(list(CASES)[:6], "t") | {"tokenizer": "f"}


def _split_words(_connection: apsw.Connection, _args: list[str]) -> Callable[..., Iterator[tuple[int, int, str]]]:
    def split(text: bytes, _flags: int, _locale: str | None) -> Iterator[tuple[int, int, str]]:
        at = 0
        for word in text.split(b" "):
            yield at, at + len(word), word.decode()
            at += len(word) + 1

    return split


class OurModule:
    """A virtual table's module that does nothing."""

    def Create(self, *_: Any) -> tuple[str, "OurModule"]:  # noqa: N802 - apsw's names
        return "CREATE TABLE x (a)", self

    Connect = Create

    def Disconnect(self) -> None:  # noqa: N802
        return

    Destroy = Disconnect


def _application(path: Path, sql: str, journal: str) -> apsw.Connection:
    owner = apsw.Connection(str(path))
    owner.create_collation("ours", lambda one, other: (one < other) - (one > other))  # the other way round than bytes
    owner.create_scalar_function("shout", lambda text: str(text).upper(), deterministic=True)
    owner.register_fts5_tokenizer("ours", _split_words)
    owner.create_module("ourmodule", OurModule())
    owner.pragma("journal_mode", journal)
    owner.execute(SCHEMA)
    owner.execute(sql)
    owner.executemany("INSERT INTO t (a) VALUES (?)", [(f"value {number}",) for number in range(500)])
    owner.execute("INSERT INTO task_queue (type) VALUES ('mail')")
    return owner


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("case", CASES)
def test_such_a_backup_counts_and_names_what_could_not_be_checked(tmp_path: Path, case: str, journal: str) -> None:
    with closing(_application(tmp_path / "queue.db", CASES[case], journal)) as owner:
        owner.execute("UPDATE t SET a = a WHERE rowid < 50" if "WITHOUT" not in CASES[case] else "UPDATE t SET b = 1")
        target = target_of(tmp_path / "queue.db", backup=BackupSettings(tmp_path / "backups"))
        run = by_hand(target, "backup")
        assert run.outcome == Outcome.DONE, run.message
        newest = newest_verified(find_backups(target), 9e9)
        assert newest is not None
        assert newest.manifest is not None
        assert newest.manifest.row_counts["t"] == 500
        assert [part.split(" ")[0] for part in newest.manifest.unchecked] == (
            [UNCHECKED[case]] if case in UNCHECKED else []
        )
        on_backup = {"on_backup": True, "full": True}
        checks: list[tuple[str, dict[str, bool]]] = [
            ("verify", {}),
            ("drill", {}),
            ("integrity", {"full": True}),
            ("integrity", on_backup),
        ]
        for action, options in checks:
            checked = by_hand(target, action, **options)
            assert checked.outcome == Outcome.DONE, (action, checked.message)
            if case in UNCHECKED:
                assert "only the application can check" in checked.message, action
            if action == "integrity" and case in UNCHECKED:
                assert checked.figures["whole_file"]
        live = by_hand(target, "restore", in_place=True)
        assert live.outcome == Outcome.DONE, live.message
        assert owner.execute("PRAGMA integrity_check").get == "ok"


def test_damage_is_still_found_there(tmp_path: Path) -> None:
    path = tmp_path / "queue.db"
    owner = _application(path, CASES["collation of an index"], "delete")
    page = leaf_of(owner, "t")
    owner.close()
    target = _target(path)
    assert by_hand(target, "backup").outcome == Outcome.DONE
    damage(path, page)
    assert by_hand(target, "backup").outcome == Outcome.UNVERIFIED
    checked = by_hand(target, "integrity", full=True)
    assert checked.outcome == Outcome.UNVERIFIED
    assert "restore" in checked.next_step


def _target(path: Path) -> Target:
    return target_of(path, backup=BackupSettings(path.parent / "backups"))
