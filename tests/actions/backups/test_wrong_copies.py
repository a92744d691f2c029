"""No wrong copy is published as verified: what each part of the proof finds of copies whose row counts are all right."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.backups import consistent_copy
from actions.backups.consistent_copy import copy_and_prove
from actions.backups.content_proof import prove_contents, read_contents
from actions.backups.copy_proof import ProofLevel, prove_copy, read_content_sha256
from actions.backups.file_compare import compare_with_files, read_held_frames
from actions.backups.page_sink import compare_all_pages
from actions.backups.row_compare import compare_rows
from actions.backups.snapshot_pin import SnapshotPin, pin_snapshot
from actions.model.context import ActionContext
from actions.model.errors import Unverified
from actions.model.stop import StopSignal
from collectors.access.connection import open_immutable
from collectors.raw_reader.client import RawReader
from collectors.target import Limits
from tests.support.scenes.run_actions import target_of
from tests.support.scenes.wrong_copies import WRONG_COPIES, Images, commit_later, create_database, take_images

Check = Callable[[ActionContext, SnapshotPin, Path], None]
LEVELS: tuple[ProofLevel, ...] = ("pages", "content")


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[apsw.Connection]:
    owner = create_database(tmp_path / "q.db", "wal")
    yield owner
    owner.close()


@pytest.fixture
def images(owner: apsw.Connection, tmp_path: Path) -> Images:
    return take_images(owner, tmp_path)


@pytest.fixture
def context(tmp_path: Path, raw: RawReader) -> ActionContext:
    return ActionContext(
        target=target_of(tmp_path / "q.db", limits=Limits(disk_reserve=0)),
        options={},
        automatic=False,
        trust_owner=False,
        last_attempt=None,
        source_failure="",
        raw=raw,
        stop=StopSignal(),
        now=time.time,
        emit=lambda _event: None,
    )


def draft(tmp_path: Path, content: bytes = b"") -> Path:
    path = tmp_path / "draft.db"
    path.write_bytes(content)
    return path


def break_method(monkeypatch: pytest.MonkeyPatch, step: str, content: bytes) -> None:
    """The copy step of one method runs as always, and then its result is this."""
    real: Callable[..., Any] = getattr(consistent_copy, step)

    def copy_wrongly(*arguments: Any) -> Any:
        result = real(*arguments)
        arguments[-1].write_bytes(content)
        return result

    monkeypatch.setattr(consistent_copy, step, copy_wrongly)


def newest_state(path: Path) -> object:
    with open_immutable(path) as copy:
        return copy.execute(
            'SELECT group_concat(DISTINCT l.state || r.state) FROM "left" l JOIN "right" r USING (id)'
        ).get


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("fault", WRONG_COPIES)
def test_a_wrong_copy_of_the_files_is_made_anew_through_sqlite(
    context: ActionContext,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    level: ProofLevel,
) -> None:
    break_method(monkeypatch, "copy_snapshot_files", WRONG_COPIES[fault](images))
    copied = copy_and_prove(context, draft(tmp_path), level)
    assert (copied.method, copied.proof.level) == ("pages", level)
    assert "could not be proved" in copied.note
    assert newest_state(tmp_path / "draft.db") == "102102"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("fault", WRONG_COPIES)
def test_a_wrong_copy_of_both_methods_is_unverified(
    context: ActionContext,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    level: ProofLevel,
) -> None:
    break_method(monkeypatch, "copy_snapshot_files", WRONG_COPIES[fault](images))
    break_method(monkeypatch, "copy_pages", WRONG_COPIES[fault](images))
    with pytest.raises(Unverified, match="not proved"):
        copy_and_prove(context, draft(tmp_path), level)


@pytest.mark.parametrize("fault", [name for name in WRONG_COPIES if "WAL" not in name])
def test_a_wrong_copy_of_a_rollback_journal_database_is_unverified(
    context: ActionContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = tmp_path / "r.db"
    owner = create_database(path, "delete")
    break_method(monkeypatch, "copy_pages", WRONG_COPIES[fault](take_images(owner, tmp_path)))
    owner.close()
    with pytest.raises(Unverified, match="not proved"):
        copy_and_prove(replace(context, target=target_of(path)), draft(tmp_path))


def counts(_context: ActionContext, pin: SnapshotPin, path: Path) -> None:
    prove_contents(path, read_contents(pin.source))


def files(context: ActionContext, pin: SnapshotPin, path: Path) -> None:
    assert pin.mark is not None
    compare_with_files(context, pin, read_held_frames(pin, pin.mark, path), path)


def rows(context: ActionContext, pin: SnapshotPin, path: Path) -> None:
    assert pin.mark is not None
    assert compare_rows(context, pin, path, set(read_held_frames(pin, pin.mark, path))) == set()


def all_pages(context: ActionContext, pin: SnapshotPin, path: Path) -> None:
    compare_all_pages(context, pin, path)


# The table in docs/safety.md: which part of the proof finds which wrong copy, each part alone.
FOUND: dict[str, tuple[Check, set[str]]] = {
    "integrity and row counts": (counts, set()),
    "the files": (files, set(WRONG_COPIES)),
    "the rows of the WAL": (
        rows,
        set(WRONG_COPIES) - {"a zeroed overflow page", "a changed byte outside the WAL"},
    ),
    "every page through SQLite": (all_pages, set(WRONG_COPIES)),
}


@pytest.mark.parametrize("fault", WRONG_COPIES)
def test_each_part_of_the_proof_finds_what_the_documentation_says(
    context: ActionContext, images: Images, tmp_path: Path, fault: str
) -> None:
    path = draft(tmp_path, WRONG_COPIES[fault](images))
    with pin_snapshot(context) as pin:
        assert {name for name, (check, _) in FOUND.items() if finds_fault(check, context, pin, path)} == {
            name for name, (_, expected) in FOUND.items() if fault in expected
        }


def finds_fault(check: Check, context: ActionContext, pin: SnapshotPin, path: Path) -> bool:
    try:
        check(context, pin, path)
    except Unverified:
        return True
    return False


def test_each_part_of_the_proof_passes_the_right_copy(context: ActionContext, images: Images, tmp_path: Path) -> None:
    path = draft(tmp_path, images.now)
    with pin_snapshot(context) as pin:
        for check, _ in FOUND.values():
            check(context, pin, path)


def test_the_proof_holds_beside_commits_and_checkpoints(
    context: ActionContext, images: Images, owner: apsw.Connection, tmp_path: Path
) -> None:
    """What is committed after the pin is in the WAL, and in the file, while the copy is compared."""
    path = draft(tmp_path, images.now)
    with pin_snapshot(context) as pin:
        commit_later(owner)
        owner.pragma("wal_checkpoint", "passive")
        words = [prove_copy(context, pin, path, level).words for level in LEVELS]
    assert "the rows on those of the WAL" in words[0] or "what SQLite reads" in words[0]
    with pin_snapshot(context) as pin, pytest.raises(Unverified):
        prove_copy(context, pin, path, "pages")


def test_the_digest_of_all_content_is_the_same_by_every_method(
    context: ActionContext, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_file = copy_and_prove(context, draft(tmp_path), "content")
    break_method(monkeypatch, "copy_snapshot_files", images.base)
    by_pages = copy_and_prove(context, draft(tmp_path), "content")
    assert (by_file.method, by_pages.method) == ("file", "pages")
    assert by_file.proof.content_sha256 == by_pages.proof.content_sha256 is not None
    assert read_content_sha256(tmp_path / "draft.db", 4096) == by_pages.proof.content_sha256
    assert os.listdir(tmp_path).count("draft.db-journal") == 0
