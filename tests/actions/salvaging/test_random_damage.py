"""Files damaged at random: salvage never crashes, never invents a row, and keeps no fewer rows than SQLite's own recovery."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from actions.salvaging.damaged_file import NotDatabase, open_damaged_file
from actions.salvaging.prove_result import ResultProof, prove_result
from actions.salvaging.rebuild import rebuild_database
from actions.salvaging.schema_rows import detect_encoding
from tests.support.real.recover_shell import recover_database, require_recovery
from tests.support.scenes.damaged_databases import (
    KINDS,
    WHOLE_PAGES,
    Rows,
    Scene,
    copy_database,
    damage_files,
    make_scene,
    read_rows,
    read_rows_apart,
    stored_form,
)

NAMES = tuple(KINDS)
SOAK = [pytest.param(seed, marks=pytest.mark.soak) for seed in range(40, 500)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Scene]]:
    folder = tmp_path_factory.mktemp("scenes")
    return {name: make_scene(name, folder / str(number)) for number, name in enumerate(NAMES)}


@pytest.mark.parametrize("seed", [*range(40), *SOAK])
def test_nothing_is_invented_and_no_less_is_kept_than_sqlite_keeps(
    seed: int, scenes: dict[str, Scene], tmp_path: Path
) -> None:
    scene = scenes[NAMES[seed % len(NAMES)]]
    damaged, ours = tmp_path / "damaged.db", tmp_path / "ours.db"
    copy_database(scene.path, damaged)
    how = damage_files(damaged, seed)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    salvage_file(damaged, ours)
    assert {path: path.read_bytes() for path in before} == before
    assert prove_result(ours) == ResultProof("")
    assert invented_rows(scene, read_rows(ours), how) == []
    theirs = recover_copy(require_recovery(), damaged, tmp_path)
    figures = (scene.total, *count_right_rows(scene, ours), *count_right_rows(scene, theirs))
    record_figures(seed, how, figures)
    assert figures[1] + figures[2] >= figures[3] + figures[4], (how, figures)


def salvage_file(damaged: Path, target: Path) -> None:
    target.touch(mode=0o600)
    try:
        with open_damaged_file(damaged) as file:
            rebuild_database(detect_encoding(file), target, lambda _pages: None)
    except NotDatabase:
        pytest.fail("there are pages of SQLite's in it")


def recover_copy(recovery: Path, damaged: Path, folder: Path) -> Path:
    copy = folder / "copy.db"
    copy_database(damaged, copy)
    recover_database(recovery, copy, folder / "theirs.db")
    return folder / "theirs.db"


def count_right_rows(scene: Scene, path: Path) -> tuple[int, int]:
    """How many rows are exactly those that the database held last: in their tables, and besides in lost_and_found."""
    if not path.exists():
        return 0, 0
    missing = Counter()
    rows = read_rows(path)
    in_tables = 0
    for table, last in scene.last.items():
        right = last & rows.get(table, Counter())
        in_tables += sum(right.values())
        missing += Counter(map(stored_form, (last - right).elements()))
    return in_tables, sum((missing & read_rows_apart(path)).values())


def invented_rows(scene: Scene, kept: Rows, how: str) -> list[tuple[str, object]]:
    """Rows with a key that no commit of the database held. A changed byte in a text key cannot be seen."""
    strange = []
    for table, rows in kept.items():
        keys = Counter(row[0] for row in rows.elements())
        strange += [(table, key) for key, times in keys.items() if times > 1]
        known = {row[0] for row in scene.ever.get(table, ())}
        new = [(table, key) for key in keys if key not in known]
        strange += new if how in WHOLE_PAGES or not isinstance(next(iter(keys), None), bytes) else []
    return strange


def record_figures(seed: int, how: str, figures: tuple[int, ...]) -> None:
    """Where a file for them is named, the figures of this file, for a table of all."""
    if path := os.environ.get("QK_SALVAGE_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps([seed, NAMES[seed % len(NAMES)], how, *figures]) + "\n")
