"""A second name for a database: hard links and mounts of the single file, where -wal and -journal lie beside the other."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from collectors.access.second_name import (
    FileUser,
    NameFacts,
    NameSignals,
    find_name_problem,
    judge_name,
    looks_suspicious,
)
from collectors.access.snapshot import Snapshot
from collectors.poll import poll_database
from collectors.poll_if_changed import poll_if_changed
from collectors.raw_reader.client import RawReader
from collectors.raw_reader.file_names import unescape_mount
from collectors.raw_reader.formats import LockRow
from collectors.raw_reader.wal_readers import HeldLock
from collectors.target import Limits, Target
from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq
from tests.support.scenes.second_names import (
    application_at,
    application_in_container,
    as_root,
    at_rest,
    end_application,
    hard_link,
    mount,
    single_mount,
)

OTHER_NAME = Callable[[Path, Path], AbstractContextManager[None]]
NAMES = [pytest.param(hard_link, id="link"), pytest.param(single_mount, id="mount", marks=as_root)]
ROOMY = Limits(read_wal=30, read_rollback=30)


def poll(path: Path, raw: RawReader) -> Snapshot:
    return poll_database(Target("jobs", path, limits=ROOMY), None, time.time(), raw)


def tasks(snapshot: Snapshot) -> float:
    return sum(sample.value_at(0) for sample in snapshot.samples_of("sqlite_queue_tasks"))


@pytest.fixture
def raw() -> "RawReader":
    with RawReader(answer_within=60) as reader:
        yield reader


@pytest.fixture
def names(tmp_path: Path) -> tuple[Path, Path]:
    """The name of the application, and another."""
    (tmp_path / "box").mkdir()
    return tmp_path / "app" / "queue.db", tmp_path / "box" / "other.db"


# --- decisions ---

WAL = NameFacts(Path("/q/queue.db"), wal=True, index=True, at_database=(7,), at_index=(7,))
ELSEWHERE = FileUser(7, "/app/queue.db", command="app")
ROLLBACK = NameFacts(Path("/q/queue.db"), wal=False, users=(replace(ELSEWHERE, here=True),))


@pytest.mark.parametrize(
    ("facts", "word", "unreadable"),
    [
        (WAL, "", False),
        (replace(WAL, links=3), "", False),  # copies by hard link of a live database
        (replace(WAL, mounted_from="/app/queue.db"), "", False),  # its -wal and -shm are mounted beside it
        (replace(WAL, at_index=()), "second_name", True),
        (replace(WAL, at_index=(8,)), "second_name", True),
        (replace(WAL, at_database=(7, 8)), "second_name", True),
        (replace(WAL, at_index=(), users=(ELSEWHERE,)), "second_name", True),
        (replace(WAL, at_index=(), users=(replace(ELSEWHERE, shares=True),)), "", False),  # may not write the -shm
        (replace(WAL, at_index=(), users=(replace(ELSEWHERE, here=True),)), "second_name", True),  # renamed
        (replace(WAL, at_index=(), users=(replace(ELSEWHERE, here=True, deleted=True),)), "wal_deleted", True),
        (replace(WAL, at_database=(0,), at_index=()), "second_name", True),  # in another pid namespace
        (replace(WAL, at_database=(0,), at_index=(0,)), "", False),
        (replace(WAL, at_database=(1,), at_index=()), "", False),  # our own connection
        (replace(WAL, at_database=(), at_index=()), "", False),
        (replace(WAL, at_database=(), links=2, all_names=False), "second_name", True),
        (replace(WAL, at_database=(), links=2, other_names=("/b/x",)), "second_name", False),
        (replace(WAL, at_database=(), links=2, other_names=("/b/x",), hidden=("/b/x-wal",)), "second_name", True),
        (replace(WAL, at_database=(), mounted_from="/app/queue.db"), "second_name", True),
        (replace(WAL, at_database=(), single_mounts=((9, "/data/q.db"),)), "second_name", False),
        (replace(WAL, single_mounts=((9, "/data/q.db"),)), "", False),  # in use by this name
        (ROLLBACK, "", False),
        (replace(ROLLBACK, links=2), "", False),
        (replace(ROLLBACK, users=()), "", False),
        (replace(ROLLBACK, users=(ELSEWHERE,)), "second_name", True),
        (replace(ROLLBACK, users=(replace(ELSEWHERE, writes=False),)), "", False),  # it copies the file
        (replace(ROLLBACK, users=(replace(ELSEWHERE, writes=False),), links=2, all_names=False), "second_name", True),
        (replace(ROLLBACK, users=(), links=2, other_names=("/b/x",), hidden=("/b/x-journal",)), "second_name", True),
        (replace(ROLLBACK, users=(), mounted_from="/app/queue.db"), "second_name", True),
    ],
)
def test_a_name_is_judged(facts: NameFacts, word: str, unreadable: bool) -> None:
    problem = judge_name(facts, ours=1)
    assert ("" if problem is None else problem.word) == word
    if problem is not None:
        assert problem.unreadable == unreadable
        assert problem.cure
        assert "\n" not in problem.message + problem.cure


def row(file: str, pid: int, mode: str = "READ") -> HeldLock:
    return HeldLock(file, LockRow("POSIX", mode, pid, 8, 1, 42, 1073741826, 1073742335), "app", "app")


@pytest.mark.parametrize(
    ("signals", "holders", "wal", "suspicious"),
    [
        (NameSignals(), (), True, False),
        (NameSignals(links=2), (), False, True),
        (NameSignals(mounted_from="/x"), (), False, True),
        (NameSignals(shared_by=7), (), True, True),
        (NameSignals(shared_by=0), (), True, True),
        (NameSignals(shared_by=-1), (), True, False),  # a raw reader's, for microseconds
        (NameSignals(shared_by=7), (), False, False),  # a reader of a rollback-journal database
        (NameSignals(), (row("db", 7), row("shm", 7)), True, False),
        (NameSignals(), (row("db", 7), row("db", 8), row("shm", 7)), True, True),
        (NameSignals(), (row("db", 8, "WRITE"),), True, False),  # it closes, or holds the file exclusively
        (NameSignals(), (row("db", os.getpid()),), True, False),
    ],
)
def test_a_closer_look_is_for_what_is_suspicious(
    signals: NameSignals, holders: tuple[HeldLock, ...], wal: bool, suspicious: bool
) -> None:
    assert looks_suspicious(signals, wal=wal, holders=holders) == suspicious


def test_a_mount_point_is_read_without_its_escapes() -> None:
    assert unescape_mount(r"/a\040b/c\134d\011e") == "/a b/c\\d\te"


# --- for real ---


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("second_name", NAMES)
def test_a_live_database_is_read_by_its_own_name_and_not_by_another(
    names: tuple[Path, Path], raw: RawReader, mode: str, second_name: OTHER_NAME
) -> None:
    first, second = names
    at_rest(first, mode)
    with application_at(first) as application, second_name(first, second):
        own, other = poll(first, raw), poll(second, raw)
        assert (own.state, own.up) == ("readable", True)
        assert tasks(own) >= 50
        assert (other.state, other.up) == ("second_name", False)
        assert {sample.metric.name for sample in other.samples} <= {"sqlite_disk_free_bytes", "sqlite_disk_size_bytes"}
        assert f"process {application.pid} (" in other.message
        assert str(first) in other.message
        assert ("mount the folder" if second_name is single_mount else "remove the other names") in other.message
        assert sorted(os.listdir(second.parent)) == [second.name], "nothing of ours beside it"
        end_application(application)


@pytest.mark.parametrize("mode", ["wal", "delete"])
@as_root
def test_the_host_sees_that_a_container_has_only_the_file(names: tuple[Path, Path], raw: RawReader, mode: str) -> None:
    first, inside = names
    at_rest(first, mode)
    with application_in_container(first, inside) as application:
        problem = find_name_problem(first, raw, wal=mode == "wal", acting=True)
        assert problem is not None
        assert (problem.word, problem.pid) == ("second_name", application.pid)
        assert str(inside) in problem.message
        assert "give the container its folder" in problem.cure
        if mode == "wal":
            assert poll(first, raw).state == "second_name"


@as_root
def test_a_container_that_has_the_file_at_rest_forbids_to_act(names: tuple[Path, Path], raw: RawReader) -> None:
    """An application that opens the file for each request is seen by its mount alone."""
    first, inside = names
    at_rest(first, "wal")
    assert find_name_problem(first, raw, wal=True, acting=True) is None
    inside.touch()
    script = f'mount --bind "{first}" "{inside}" && echo ready && read line'
    command = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            pytest.skip("no mount namespaces on this machine")
        problem = find_name_problem(first, raw, wal=True, acting=True)
        child.kill()
    assert problem is not None
    assert (problem.word, problem.unreadable) == ("second_name", False)
    assert str(inside) in problem.message


POLL = (
    "import json, sys, time; from pathlib import Path\n"
    "from collectors.poll import poll_database; from collectors.raw_reader.client import RawReader\n"
    "from collectors.target import Limits, Target\n"
    "with RawReader(answer_within=60) as raw:\n"
    "    snapshot = poll_database(Target('jobs', Path(sys.argv[1]), limits=Limits(30, 30, 30, 30)), None, time.time(), raw)\n"
    "print(json.dumps([snapshot.state, snapshot.message]))"
)


@as_root
def test_in_a_pid_namespace_of_our_own_the_process_has_no_number_and_counts(names: tuple[Path, Path]) -> None:
    first, second = names
    at_rest(first, "wal")
    with application_at(first), hard_link(first, second):
        for path, state in ((second, "second_name"), (first, "readable")):
            command = ["unshare", "--mount-proc", "--pid", "--fork", sys.executable, "-c", POLL, str(path)]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if not answer.stdout:
                pytest.skip(f"no pid namespaces on this machine: {answer.stderr}")
            word, message = json.loads(answer.stdout)
            assert word == state, message
            assert ("a process not visible to us" in message) == (state == "second_name")


def test_commits_in_the_wal_of_another_name_are_not_taken_for_absent(names: tuple[Path, Path], raw: RawReader) -> None:
    first, second = names
    at_rest(first, "wal")
    with application_at(first) as application:
        application.kill()
        application.wait()
    with hard_link(first, second):
        snapshot = poll(second, raw)
        assert snapshot.state == "second_name"
        assert f"{first}-wal holds what belongs to it" in snapshot.message
        assert poll(first, raw).state == "readable", "its own WAL is beside it"


def test_a_hot_journal_beside_another_name_is_not_taken_for_absent(names: tuple[Path, Path], raw: RawReader) -> None:
    first, second = names
    at_rest(first, "delete")
    script = (
        "import apsw, os, sys; c = apsw.Connection(sys.argv[1]); c.pragma('cache_size', 1)\n"
        "c.execute('BEGIN IMMEDIATE'); c.execute('DELETE FROM task_queue'); c.cache_flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(first)], check=False)
    with hard_link(first, second):
        assert poll(first, raw).state == "hot_journal"
        snapshot = poll(second, raw)
        assert (snapshot.state, tasks(snapshot)) == ("second_name", 0)
        assert f"{first}-journal" in snapshot.message


def test_other_names_out_of_our_sight_are_not_taken_for_absent(names: tuple[Path, Path], raw: RawReader) -> None:
    first, second = names
    at_rest(first, "wal")
    far = second.parent.parent.parent / f"{second.parent.parent.name}-far" / "deep"
    far.mkdir(parents=True)
    with hard_link(first, far / "queue.db"):
        snapshot = poll(first, raw)
        assert (snapshot.state, snapshot.up) == ("second_name", False)
        assert "2 names" in snapshot.message
        assert "samefile" in snapshot.message
        (far / "queue.db").unlink()
        assert poll(first, raw).state == "owner_down"


def test_all_names_at_rest_without_anything_beside_them_are_as_one(names: tuple[Path, Path], raw: RawReader) -> None:
    first, second = names
    at_rest(first, "delete")
    with hard_link(first, second):
        assert [poll(path, raw).state for path in names] == ["readable", "readable"]
        assert [tasks(poll(path, raw)) for path in names] == [50, 50]
        assert find_name_problem(second, raw, wal=False, acting=True) is not None, "which one will its owner use?"


def test_files_deleted_under_an_application_are_not_taken_for_a_stopped_one(
    names: tuple[Path, Path], raw: RawReader
) -> None:
    first, _ = names
    at_rest(first, "wal")
    with application_at(first) as application:
        for suffix in ("-wal", "-shm"):
            Path(f"{first}{suffix}").unlink()
        snapshot = poll(first, raw)
        assert (snapshot.state, snapshot.up) == ("wal_deleted", False)
        assert f"process {application.pid} (" in snapshot.message
        assert "stop that process in the regular way" in snapshot.message
        commits = end_application(application)
    with apsw.Connection(str(first)) as database:
        assert database.execute("SELECT count(*) FROM task_queue").get == 50 + commits, "the cure is true"


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_symbolic_link_leads_to_the_files_beside_the_real_name(
    names: tuple[Path, Path], raw: RawReader, mode: str
) -> None:
    first, second = names
    at_rest(first, mode)
    second.symlink_to(first)
    with application_at(first):
        snapshot = poll(second, raw)
        assert (snapshot.state, snapshot.up) == ("readable", True)
        assert tasks(snapshot) >= 50
        for path in names:
            assert find_name_problem(path, raw, wal=mode == "wal", acting=True) is None


def test_a_database_that_is_opened_and_closed_without_a_pause_has_one_name(
    names: tuple[Path, Path], raw: RawReader
) -> None:
    first, _ = names
    at_rest(first, "wal", tasks=1)
    with ExitStack() as stack:
        stack.enter_context(prismq.process("opening_and_closing.py", first))
        words = {problem.word for _ in range(60) if (problem := find_name_problem(first, raw, wal=True, acting=True))}
    assert words == set()


def test_a_survey_holds_no_file_whose_process_is_elsewhere(names: tuple[Path, Path], raw: RawReader) -> None:
    """Its last connection, which copies the WAL when it closes, would find the file held, and not copy it."""
    first, second = names
    at_rest(first, "wal")
    with application_at(first) as application, hard_link(first, second):
        assert "hold_wal" not in raw.survey_database(second)
        assert poll(second, raw).state == "second_name"
        assert {holder.pid for holder in raw.find_held_locks(second)} == {application.pid}


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_one_deleted_file_is_enough(names: tuple[Path, Path], raw: RawReader, suffix: str) -> None:
    first, _ = names
    at_rest(first, "wal")
    with application_at(first) as application:
        Path(f"{first}{suffix}").unlink()
        snapshot = poll(first, raw)
        assert (snapshot.state, snapshot.up) == ("wal_deleted", False)
        assert f"process {application.pid} (" in snapshot.message


@pytest.mark.parametrize("mode", ["wal", "delete"])
@as_root
def test_a_folder_that_is_mounted_once_more_is_the_same_folder(
    names: tuple[Path, Path], raw: RawReader, mode: str, tmp_path: Path
) -> None:
    first, second = names
    at_rest(first, mode)
    mount("--bind", first.parent, second.parent)
    try:
        with application_at(first):
            view = second.parent / first.name
            assert find_name_problem(view, raw, wal=mode == "wal", acting=True) is None
            assert tasks(poll(view, raw)) >= 50
    finally:
        subprocess.run(["umount", "-l", str(second.parent)], check=True)


@pytest.mark.parametrize("mode", ["wal", "delete"])
@as_root
def test_a_layer_of_a_container_has_locks_of_its_own(tmp_path: Path, raw: RawReader, mode: str) -> None:
    """An overlay has other inodes than its layer: the kernel shows no lock of one at the other."""
    lower, layer, work, merged = (tmp_path / name for name in ("lower", "layer", "work", "merged"))
    for place in (lower, layer, work, merged):
        place.mkdir()
    mount("-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={layer},workdir={work}", merged)
    try:
        at_rest(merged / "queue.db", mode)
        with application_at(merged / "queue.db"):
            assert poll(merged / "queue.db", raw).state == "readable"
            assert find_name_problem(merged / "queue.db", raw, wal=mode == "wal", acting=True) is None
            snapshot = poll(layer / "queue.db", raw)
            assert (snapshot.state, snapshot.up) == ("second_name", False)
            assert f"use {merged / 'queue.db'}" in snapshot.message
    finally:
        subprocess.run(["umount", "-l", str(merged)], check=True)
    assert poll(layer / "queue.db", raw).state in ("readable", "owner_down")


def test_a_file_that_was_renamed_under_its_application_has_its_wal_at_the_former_name(
    names: tuple[Path, Path], raw: RawReader
) -> None:
    first, _ = names
    at_rest(first, "wal")
    renamed = first.with_name("renamed.db")
    with application_at(first) as application:
        first.rename(renamed)
        snapshot = poll(renamed, raw)
        assert (snapshot.state, snapshot.up) == ("second_name", False)
        assert f"process {application.pid} (" in snapshot.message
        assert f"give the file {first} again" in snapshot.message
        assert find_name_problem(renamed, raw, wal=True, acting=True) is not None


def test_an_application_that_comes_by_another_name_is_noticed_though_no_file_here_changes(
    names: tuple[Path, Path], raw: RawReader
) -> None:
    """Its commits go to the WAL beside the other name: what was read here is not taken for what still holds."""
    first, second = names
    at_rest(first, "wal")
    target, now = Target("jobs", second, limits=ROOMY), time.time() + 1
    with hard_link(first, second):
        before = poll_if_changed(target, poll_if_changed(target, None, now, raw), now + 1, raw)
        assert before.state == "owner_down"
        with prismq.process("application.py", first, "1e9") as application:  # commits once
            deadline = time.monotonic() + LONGEST_WAIT
            while (noticed := poll_if_changed(target, before, now + 2, raw)).state == "owner_down":
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert (noticed.state, noticed.up) == ("second_name", False)
            assert f"process {application.pid} (" in noticed.message


@as_root
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_an_application_with_another_root_works_by_the_same_name(
    names: tuple[Path, Path], raw: RawReader, mode: str, tmp_path: Path
) -> None:
    first, _ = names
    at_rest(first, mode)
    root = tmp_path / "root"
    root.mkdir()
    mount("--rbind", "/", root)
    mount("--make-rslave", root)
    child = subprocess.Popen(
        ["chroot", str(root), sys.executable, str(prismq.HERE / "application.py"), str(first), "20"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert find_name_problem(first, raw, wal=mode == "wal", acting=True) is None
    finally:
        child.kill()
        child.communicate()
        subprocess.run(["umount", "--recursive", "-l", str(root)], check=True)


@as_root
def test_a_container_that_has_only_the_file_by_the_same_path_has_another_name(
    names: tuple[Path, Path], raw: RawReader
) -> None:
    """Its folder of that name is another one."""
    first, box = names[0], names[1].parent
    at_rest(first, "delete")
    (box / first.name).touch()
    inside = f'mount --bind "{first}" "{box / first.name}" && mount --rbind "{box}" "{first.parent}"'
    command = f'{inside} && exec "{sys.executable}" "{prismq.HERE / "application.py"}" "{first}" 20'
    child = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        if child.stdout.readline() != "ready\n":
            pytest.skip("no mount namespaces on this machine")
        problem = find_name_problem(first, raw, wal=False, acting=True)
        assert problem is not None
        assert (problem.word, problem.pid) == ("second_name", child.pid)
    finally:
        child.kill()
        child.communicate()
