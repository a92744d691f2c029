"""What the guards get to know of a fresh backup: the newest verified one of this database, safety copies left out."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from actions.model.request import Request
from actions.registry import ACTIONS
from actions.runner.guard_facts import gather_guard_inputs
from actions.runner.guards import GuardInputs, first_refusal
from actions.runner.protocol import Job
from actions.store.database import state_store
from collectors.backup_catalog.local_directory import manifest_path, read_manifest
from collectors.backup_catalog.manifest import encode_manifest
from collectors.raw_reader.client import RawReader
from collectors.target import BackupSettings, Limits, Target
from tests.support.scenes import prismq
from tests.support.scenes.run_actions import ALL_DAY, act, by_hand, target_of


@pytest.fixture
def target(queue: prismq.Queue, tmp_path: Path) -> Target:
    queue.put()
    return target_of(queue.path, backup=BackupSettings(tmp_path / "backups"), limits=Limits(disk_reserve=0))


@pytest.fixture
def store(target: Target) -> Iterator[apsw.Connection]:
    assert target.state is not None
    with state_store(target.state) as opened:
        yield opened


def facts(target: Target, store: apsw.Connection, now: float, trigger: Any = "schedule") -> GuardInputs:
    assert target.state is not None
    request = Request("vacuum", target.name, trigger)
    job = Job(request, target, target.state, None, False, ALL_DAY, 3600.0)
    with RawReader() as raw:
        return gather_guard_inputs(job, ACTIONS["vacuum"].SPEC, store, now, raw)


def reason(inputs: GuardInputs) -> str:
    refused = first_refusal(inputs)
    return "" if refused is None else refused.reason


def test_a_verified_backup_permits_a_destructive_run_until_it_is_too_old(
    target: Target, store: apsw.Connection
) -> None:
    assert reason(facts(target, store, time.time())) == "no_fresh_backup"
    assert reason(facts(target, store, time.time(), "person")) == ""
    snapshot_time = read_manifest(manifest_path(Path(str(by_hand(target, "backup").figures["path"])))).snapshot_time
    assert reason(facts(target, store, snapshot_time + 3600)) == ""
    assert reason(facts(target, store, snapshot_time + 3601)) == "no_fresh_backup"


@pytest.mark.parametrize("changed", [{"verified_time": None}, {"kind": "safety"}, {"bytes": 1}])
def test_an_unverified_or_safety_backup_does_not_count(
    target: Target, store: apsw.Connection, changed: dict[str, Any]
) -> None:
    manifest = manifest_path(Path(str(by_hand(target, "backup").figures["path"])))
    manifest.write_text(encode_manifest(replace(read_manifest(manifest), **changed)))
    assert reason(facts(target, store, time.time())) == "no_fresh_backup"


def test_without_a_place_for_backups_there_is_none(target: Target, store: apsw.Connection) -> None:
    assert reason(facts(replace(target, backup=None), store, time.time())) == "no_fresh_backup"


def test_what_cannot_be_undone_is_refused_by_its_child_until_there_is_a_window_and_a_backup(target: Target) -> None:
    request = Request("vacuum", target.name, "schedule", options={"free_for": 0.0})
    assert act(target, request, window=None).reason == "no_window"
    assert act(target, request).reason == "no_fresh_backup"
    assert by_hand(target, "vacuum", free_for=0.0).outcome in ("done", "nothing_to_do"), "a person is not bound"
    assert by_hand(target, "backup").outcome == "done"
    assert act(target, request).outcome in ("done", "nothing_to_do")
