"""What is said of a damaged source: its own name and steps that work, not a partial file that is gone."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from collectors.backup_catalog.local_directory import manifest_path
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes.run_actions import by_hand, target_of

ROWS = 5000


def make_queue(folder: Path, mode: str) -> Target:
    path = folder / "queue.db"
    owner = apsw.Connection(str(path))
    owner.pragma("journal_mode", mode)
    owner.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX i ON t (v)")
    with owner:
        owner.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"value {n}") for n in range(ROWS)))
    owner.close()
    return target_of(path, limits=Limits(disk_reserve=0), backup=BackupSettings(folder / "b", own_folder=False))


def change_value(path: Path) -> None:
    """Change one letter of a row and not in its index: the file can be read and copied whole, damage included."""
    content = bytearray(path.read_bytes())
    content[content.rfind(b"value 4999")] = ord("V")
    path.write_bytes(content)


def lose_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20 * 4096 : 21 * 4096] = bytes(4096)
    path.write_bytes(content)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("damage", [change_value, lose_page])
def test_a_backup_names_the_source_and_the_steps_it_names_work(tmp_path: Path, mode: str, damage) -> None:
    target = make_queue(tmp_path, mode)
    assert by_hand(target, "backup").outcome == "done"
    damage(target.path)
    run = by_hand(target, "backup")
    assert (run.outcome, run.reason) == ("unverified", "source")
    assert run.message.startswith(f"{target.path} is damaged")
    assert "partial" not in run.message + run.next_step
    salvage, restore = (
        shlex.split(words) for words in re.findall(r"queuekeeper ((?:salvage|restore) [^,;]+)", run.next_step)
    )
    new = tmp_path / "new.db"
    type_command([str(new) if word == "NEW_FILE" else word for word in salvage], target)
    assert new.exists()
    type_command(restore, target)
    database = apsw.Connection(str(target.path))
    assert database.execute("PRAGMA integrity_check").get == "ok"
    database.close()


def type_command(words: list[str], target: Target) -> None:
    command = [sys.executable, "-m", "exporter.commands", *words, "--state", str(target.state), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert json.loads(ended.stdout)["outcome"] == "done"


def test_a_restore_names_the_source_that_cannot_be_kept(tmp_path: Path) -> None:
    target = make_queue(tmp_path, "WAL")
    by_hand(target, "backup")
    change_value(target.path)
    run = by_hand(target, "restore", in_place=True)
    assert (run.outcome, run.reason) == ("unverified", "damaged_source")
    assert str(target.path) in run.message
    assert "partial" not in run.message + run.next_step
    assert "queuekeeper salvage" in run.next_step


def test_a_compressed_backup_that_is_damaged_is_named_itself(tmp_path: Path) -> None:
    target = make_queue(tmp_path, "WAL")
    target = replace(target, backup=replace(target.backup, compress="zstd"))
    path = Path(str(by_hand(target, "backup").figures["path"]))
    manifest = json.loads(manifest_path(path).read_text())
    manifest["row_counts"]["t"] += 1
    manifest_path(path).write_text(json.dumps(manifest))
    run = by_hand(target, "verify", backup=str(path))
    assert run.outcome == "unverified"
    assert "partial" not in run.message
    assert path.name.removesuffix(".zst") in run.message
