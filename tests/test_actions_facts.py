"""What the guards are told of a fresh backup: the newest verified one of this very database, safety copies left out."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import prismq
import pytest
from acting import by_hand, target_of

from actions.door.facts import gather
from actions.door.guard import Facts, refusal
from actions.door.job import Job
from actions.history.store import history
from actions.run.request import Request
from collectors.manifest import encode, manifest_path, read_manifest
from collectors.target import BackupPlace, Limits, Target

DESTROYING: Any = SimpleNamespace(NAME="purge", WINDOWED=False, DESTRUCTIVE=True)


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put()
    return target_of(queue.path, backup=BackupPlace(tmp_path / "backups"), limits=Limits(disk_reserve=0))


@pytest.fixture
def store(target: Target) -> Iterator[apsw.Connection]:
    assert target.state is not None
    with history(target.state) as opened:
        yield opened


def facts(target: Target, store: apsw.Connection, now: float, trigger: Any = "schedule") -> Facts:
    assert target.state is not None
    job = Job(Request("purge", target.name, trigger), target, target.state, None, fresh_backup=3600.0)
    return gather(job, DESTROYING, store, now)


def reason(found: Facts) -> str:
    refused = refusal(found)
    return "" if refused is None else refused.reason


def test_a_verified_backup_lets_what_destroys_run_until_it_is_too_old(target: Target, store: apsw.Connection) -> None:
    assert reason(facts(target, store, time.time())) == "no_fresh_backup"
    assert reason(facts(target, store, time.time(), "person")) == ""
    taken = read_manifest(manifest_path(Path(str(by_hand(target, "backup").figures["path"])))).snapshot_time
    assert reason(facts(target, store, taken + 3600)) == ""
    assert reason(facts(target, store, taken + 3601)) == "no_fresh_backup"


@pytest.mark.parametrize("changed", [{"verified_time": None}, {"kind": "safety"}, {"bytes": 1}])
def test_what_is_no_proved_ordinary_backup_does_not_count(
    target: Target, store: apsw.Connection, changed: dict[str, Any]
) -> None:
    manifest = manifest_path(Path(str(by_hand(target, "backup").figures["path"])))
    manifest.write_text(encode(replace(read_manifest(manifest), **changed)))
    assert reason(facts(target, store, time.time())) == "no_fresh_backup"


def test_without_a_place_for_backups_there_is_none(target: Target, store: apsw.Connection) -> None:
    assert reason(facts(replace(target, backup=None), store, time.time())) == "no_fresh_backup"
