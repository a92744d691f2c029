"""`queuekeeper demo` as people run it: what it tells, how it ends, and that it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.checks.documents import ROOT, fenced_blocks
from tests.support.checks.drawn import FACTS, differences, quoted, story
from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import UNPACKED, require, until
from tests.support.scenes.agent_process import processes_of

# It ends as soon as all is healed; this long only on a machine that is busy with other things.
SECONDS = 600


@dataclass
class Demo:
    """A running demo and what it has told so far."""

    process: subprocess.Popen[str]
    told: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.told)

    @property
    def folder(self) -> Path:
        """Where its files are, once it has said so."""
        found = re.search(r"in (/\S+), watched", self.text)
        assert found is not None, self.text
        return Path(found[1])

    def wait_for(self, pattern: str) -> None:
        """Until a line matches."""

        def told() -> bool:
            assert self.process.poll() is None or re.search(pattern, self.text), self.text
            return re.search(pattern, self.text) is not None

        until(told, f"the demo to tell {pattern!r}")

    def end(self, timeout: float = LONGEST_WAIT) -> int:
        """Its exit status, all it said read."""
        return self.process.wait(timeout)


@contextmanager
def demo(*options: str, **environment: str) -> Iterator[Demo]:
    """A demo; at the end it and everything of it is gone, also when the test failed."""
    command = [sys.executable, "-m", "exporter.commands", "demo", *options]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )
    made = Demo(process)
    assert process.stdout is not None
    reader = threading.Thread(target=made.told.extend, args=(iter(process.stdout.readline, ""),))
    reader.start()
    try:
        yield made
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(LONGEST_WAIT)
        finally:
            process.kill()
            reader.join()
            process.stdout.close()


def left_behind(folder: Path) -> list[object]:
    """What there still is of a demo: its folder, its processes."""
    return [*([folder] if folder.exists() else []), *processes_of(folder)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    """A demo that was left alone: exit status, what it told, where its files were."""
    temporary = tmp_path_factory.mktemp("demo")
    with demo("--seconds", str(SECONDS), TMPDIR=str(temporary), PATH=f"{os.environ['PATH']}:{UNPACKED}") as made:
        status = made.end(SECONDS + LONGEST_WAIT)
    return status, made.text, made.folder


def test_it_ends_by_itself_with_everything_healed(whole: tuple[int, str, Path]) -> None:
    status, text, _ = whole
    assert status == 0, text
    assert "all healed" in text


TOLD = {
    "a killed worker": r"a worker was killed with kill -9 while it held task \d+",
    "the stale lease": r"sqlite_queue_stale_leases is 1",
    "the requeue that helped": r"requeue.*requeued 1 task.*fixed|requeue.*fixed.*requeued 1 task",
    "the lease given back": r"sqlite_queue_stale_leases is 0",
    "the growing log": r"sqlite_wal_state is (backlog|pinned), sqlite_wal_backlog_bytes [1-9]\d{5,}",
    "the pin": r"sqlite_wal_state is pinned",
    "the checkpoint in whose way a reader stands": r"checkpoint.*blocked.*pid \d+ \([^)]*reader",
    "the checkpoint that helped": r"checkpoint.*(done|copied).*fixed|checkpoint.*fixed.*copied",
    "the refused passive checkpoint": r"checkpoint jobs --mode passive -> exit 3",
    "its reason": r"WAL-reset bug",
    "its cure": r"--owner-sqlite 3\.51\.3",
    "where all of it can be seen and tried": r"to try actions there, log in with the token in \S+: http://127\.0\.0\.1:\d+/\n",
    "the damaged copy": r"scrub jobs --from \S+ -> exit 5\n.*copies: 2\n.*intact: 1\n.*damaged: 1",
    "the intact copy that a restore takes": r"restore jobs --from \S+ --to \S+ -> exit 0\n.*done: restored",
    "the finished tasks that were purged": r"purge jobs --older-than 7d -> exit 0\n.*done: purged 2500 finished tasks",
    "the space given back in slices": r"vacuum jobs --incremental --free-for 0s -> exit 0\n.*done: freed \d{3,} pages",
    "the workers' pace": r"its workers completed \d+ tasks a second before, [1-9]\d* during this",
    "the smaller file": r"sqlite_database_size_bytes is \d+ \([\d.]+ MiB\); it was [1-9]\d*\.\d MiB",
}


BY_ALERTS = {
    "the alert on the stale lease": r"the alert QueueStaleLeases fires",
    "its end": r"the alert QueueStaleLeases has resolved",
    "the requeue that it asked for": r"requeue: done .*alert of rule stale-leases.*, alert [0-9a-f]{16}/1",
    "the checkpoint that it asked for": r"checkpoint: done .*fixed.*alert of rule wal-backlog.*, alert [0-9a-f]{16}/1",
}


@pytest.mark.real
@pytest.mark.parametrize("pattern", BY_ALERTS.values(), ids=BY_ALERTS.keys())
def test_with_prometheus_and_alertmanager_the_healing_goes_through_them(
    whole: tuple[int, str, Path], pattern: str
) -> None:
    require("prometheus")
    require("prometheus-alertmanager")
    assert re.search(pattern, whole[1]), whole[1]


def test_where_one_of_them_does_not_start_thresholds_start_the_actions(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("prometheus", "prometheus-alertmanager"):
        (tmp_path / "bin" / name).symlink_to("/bin/false")
    with demo("--seconds", "1", TMPDIR=str(tmp_path), PATH=f"{tmp_path}/bin") as made:
        made.wait_for("thresholds start the actions")


def test_without_them_thresholds_start_the_actions(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    with demo("--seconds", "1", TMPDIR=str(tmp_path), PATH=f"{tmp_path}/bin") as made:
        made.wait_for("thresholds start the actions")
        config = (made.folder / "queuekeeper.yaml").read_text()
    assert "threshold: {for: 1s}" in config


@pytest.mark.parametrize("pattern", TOLD.values(), ids=TOLD.keys())
def test_it_tells_what_goes_wrong_and_what_was_done_about_it(whole: tuple[int, str, Path], pattern: str) -> None:
    assert re.search(pattern, whole[1]), whole[1]


def test_what_is_blocked_names_the_reader_that_the_demo_started(whole: tuple[int, str, Path]) -> None:
    started = re.search(r"a slow report \(pid (\d+)\)", whole[1])
    blocked = re.search(r"checkpoint.*blocked.*pid (\d+)", whole[1])
    assert started is not None
    assert blocked is not None
    assert started[1] == blocked[1]


@pytest.mark.real
def test_the_pictures_of_the_dashboards_show_what_it_tells(whole: tuple[int, str, Path]) -> None:
    assert differences(story(whole[1]), FACTS) == [], "draw again: python -m grafana.draw.draw"


@pytest.mark.real
def test_the_readme_quotes_it(whole: tuple[int, str, Path]) -> None:
    """Every line of the README's excerpt, numbers aside and with anything for its dots."""
    (excerpt,) = [
        block.text for block in fenced_blocks(ROOT / "README.md") if "application: a slow report" in block.text
    ]
    assert len(excerpt.splitlines()) > 5
    for line in excerpt.splitlines():
        assert re.search(quoted(line), whole[1]), line


def test_it_heals_only_after_it_was_wrong(whole: tuple[int, str, Path]) -> None:
    places = [re.search(TOLD[name], whole[1]) for name in ("the stale lease", "the requeue that helped")]
    wrong, healed = (place.start() if place else -1 for place in places)
    assert 0 < wrong < healed


def test_it_leaves_nothing_behind(whole: tuple[int, str, Path]) -> None:
    assert left_behind(whole[2]) == []
    assert list(whole[2].parent.iterdir()) == []


def test_its_page_shows_the_demo_and_its_token_acts_there(tmp_path: Path) -> None:
    with demo(TMPDIR=str(tmp_path)) as made:
        made.wait_for("others/")
        found = re.search(r"page +(http\S+)/ \(to act there, log in with the token in (\S+)\)", made.text)
        assert found is not None, made.text
        url, token = found[1], Path(found[2]).read_text().strip()
        with httpx.Client(base_url=url, timeout=LONGEST_WAIT) as client:
            page = client.get("/").text
            assert all(name in page for name in (">jobs</a>", ">mail</a>", ">notes</a>", "Cannot be read")), page
            assert client.post("/login", data={"token": token}).status_code == 303
            assert "Pause all actions" in client.get("/").text
            asked = client.post("/api/v1/databases/jobs/actions/backup", json={"dry_run": True})
            assert (asked.status_code, asked.json()["dry_run"]) == (200, True), asked.text


CTRL_C, END = [signal.SIGINT], [signal.SIGTERM]


@pytest.mark.parametrize(
    ("signals", "when"),
    [(CTRL_C, "watched by queuekeeper"), (CTRL_C, "slow report"), (END, "slow report"), (CTRL_C * 3, "slow report")],
    ids=["Ctrl-C at once", "Ctrl-C in the middle", "SIGTERM", "Ctrl-C by somebody impatient"],
)
def test_a_signal_ends_it_cleanly(tmp_path: Path, signals: list[signal.Signals], when: str) -> None:
    with demo(TMPDIR=str(tmp_path)) as made:
        made.wait_for(when)
        for number in signals:
            made.process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                made.process.wait(0.05)
        status = made.end()
    assert status == 0, made.text
    assert "Traceback" not in made.text
    assert "everything is removed" in made.text
    until(lambda: left_behind(made.folder) == [], "its processes to be gone")
    assert list(tmp_path.iterdir()) == []


def test_what_it_cannot_heal_in_time_is_an_exit_status(tmp_path: Path) -> None:
    with demo("--seconds", "1", TMPDIR=str(tmp_path)) as made:
        assert made.end() == 1
    assert "not everything was healed" in made.text
    assert left_behind(made.folder) == []
