"""Root without the right to give files away: what the kernel permits counts, not the user id 0."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from collectors.access.rights import is_mapped, may_give_away
from collectors.target import BackupSettings, Target
from tests.support.scenes import prismq, runner_child

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can lose the rights of root")
OWNER = 4801
WITHOUT_CHOWN = ("setpriv", "--bounding-set=-chown", "--inh-caps=-chown")
OWN_NAMESPACE = ("unshare", "--user", "--map-root-user")
POLL = (
    "import json, sys, time; from pathlib import Path\n"
    "from collectors.poll import poll_database; from collectors.raw_reader.client import RawReader\n"
    "from collectors.target import Limits, Target\n"
    "with RawReader(answer_within=60) as raw:\n"
    "    snapshot = poll_database(Target('jobs', Path(sys.argv[1]), limits=Limits(30, 30, 30, 30)), None, time.time(), raw)\n"
    "print(json.dumps([snapshot.state, snapshot.message]))"
)
AS_OWNER = (
    "import apsw, os, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n"
    "c = apsw.Connection(sys.argv[1]); c.execute(\"INSERT INTO task_queue (type) VALUES ('own')\")\n"
    "print('ready', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("identity", "table", "mapped"),
    [
        (1001, "", True),  # no user namespaces
        (1001, "         0          0 4294967295\n", True),
        (65534, "         0          0 4294967295\n", True),
        (0, "0 1000 1", True),
        (1001, "0 1000 1", False),
        (65534, "0 100000 65536", False),  # it may stand for any that is not known here
        (1001, "0 100000 65536", True),
        (1001, "0 1000 1\n1 100000 1000", False),
        (1000, "0 1000 1\n1 100000 1000", True),
    ],
)
def test_a_user_namespace_knows_the_users_in_its_map(identity: int, table: str, mapped: bool) -> None:
    assert is_mapped(identity, table) == mapped


def test_only_user_0_can_give_away_what_sqlite_creates() -> None:
    if os.geteuid() != 0:
        assert not may_give_away(OWNER, OWNER)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the application's user, with its queue; every user can reach it."""
    place = Path(tempfile.mkdtemp(prefix="queuekeeper-test-"))
    place.chmod(0o755)
    queue = prismq.create(place / "queue.db")
    queue.put()
    queue.owner.close()
    for path in (place, place / "queue.db"):
        os.chown(path, OWNER, OWNER)
    yield place
    shutil.rmtree(place)


def poll_as(path: Path, command: tuple[str, ...]) -> tuple[str, str]:
    answer = subprocess.run(
        [*command, sys.executable, "-c", POLL, str(path)], capture_output=True, text=True, check=False
    )
    if not answer.stdout:
        pytest.skip(f"this machine does not let root do this: {answer.stderr[-200:]}")
    state, message = json.loads(answer.stdout)
    return state, message


def own_files(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.glob("queue.db*")}


@as_root
@pytest.mark.parametrize("command", [WITHOUT_CHOWN, OWN_NAMESPACE], ids=["capability", "namespace"])
def test_root_that_cannot_give_files_away_reads_nothing_where_it_could_leave_some(
    folder: Path, command: tuple[str, ...]
) -> None:
    if command is OWN_NAMESPACE:
        folder.chmod(0o777)  # there it has no other right to write in it
    owner = [sys.executable, "-c", AS_OWNER, str(folder / "queue.db"), str(OWNER)]
    with subprocess.Popen(owner, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as application:
        assert application.stdout is not None
        assert application.stdout.readline() == "ready\n"
        assert poll_as(folder / "queue.db", ())[0] == "readable", "root with all its rights"
        state, message = poll_as(folder / "queue.db", command)
        application.kill()
    assert (state, "CAP_CHOWN" in message) == ("refused", True), message
    assert own_files(folder) == {OWNER}


@as_root
@pytest.mark.parametrize("action", ["backup", "requeue", "checkpoint"])
def test_root_that_cannot_give_files_away_does_not_act(folder: Path, action: str) -> None:
    state = Path(tempfile.mkdtemp(prefix="queuekeeper-test-"))
    try:
        target = Target("queue", folder / "queue.db", state=state, backup=BackupSettings(state / "backups"))
        job = runner_child.claimed(target, action)
        command = (*WITHOUT_CHOWN, sys.executable, "-I", "-m", "actions.runner.child")
        status, _, errors = runner_child.finish(runner_child.start(job, command=command))
        run = runner_child.record(job)
        assert (status, run.outcome, run.reason) == (3, "refused", "foreign_owner"), errors
        assert f"run as user {OWNER}, or leave this root CAP_CHOWN" in run.next_step
        assert own_files(folder) == {OWNER}
    finally:
        shutil.rmtree(state)
    with apsw.Connection(str(folder / "queue.db")) as database:
        assert database.execute("SELECT count(*) FROM task_queue").get == 1


@as_root
def test_a_file_of_root_itself_needs_no_right(tmp_path: Path) -> None:
    queue = prismq.create(tmp_path / "queue.db")
    queue.put()
    for command in (WITHOUT_CHOWN, OWN_NAMESPACE):
        assert poll_as(queue.path, command)[0] == "readable"
    queue.owner.close()


@as_root
def test_root_that_may_not_look_into_processes_does_not_take_them_for_absent(folder: Path) -> None:
    """Containers take CAP_SYS_PTRACE away: open files of other users are then hidden, and an idle application has no lock."""
    without = ("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
    script = "import sys; from collectors.access.rights import sees_open_files_of; print(sees_open_files_of(int(sys.argv[1])))"
    for command, user, sees in (((), OWNER, "True"), (without, OWNER, "False"), (without, 0, "True")):
        answer = subprocess.run(
            [*command, sys.executable, "-c", script, str(user)], capture_output=True, text=True, check=False
        )
        if not answer.stdout:
            pytest.skip(f"this machine does not let root do this: {answer.stderr[-200:]}")
        assert answer.stdout.strip() == sees
