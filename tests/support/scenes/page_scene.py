"""An agent with every situation that its page must show: healthy, stale, pinned, missing, no database, a name to escape."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time

import apsw
import httpx

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import agent_process, prismq
from tests.support.scenes.agent_process import AgentProcess

TOKEN = "correct-horse-battery-staple"
CONFIG = """
databases:
  - {name: jobs, path: FOLDER/jobs.db, settings: {grace: 2s}, backup: {directory: FOLDER/backups}}
  - {name: reports, path: FOLDER/reports.db}
  - {name: mail, path: FOLDER/mail.db, settings: {grace: 2s}, backup: {directory: FOLDER/backups}}
  - {name: gone, path: FOLDER/gone.db}
  - {path: FOLDER/found/*.db}
poll: {interval: 1s, rescan: 1s}
actions: {enabled: true, allow: {token_files: [FOLDER/token]}}
rules:
  - name: wal-backlog
    when: {sqlite_wal_backlog_bytes: {above: 1MiB, clear: 8KiB}}
    on: {threshold: {for: 1h}}
    do: checkpoint
  - {name: stale-leases, when: {sqlite_queue_stale_leases: {above: 0}}, on: {threshold: {for: 1h}}, do: requeue}
schedules: [{name: nightly, cron: "0 3 * * *", do: backup, databases: [mail]}]
state: FOLDER/state
"""
HOSTILE = "<script>alert(1)</script>"
STRANGE = "<img src=x onerror=alert(1)>&'.db"


@dataclass
class Scene:
    """The agent, and the queue that a test may act on."""

    agent: AgentProcess
    jobs: prismq.Queue

    @property
    def url(self) -> str:
        """The address of the page."""
        return self.agent.url

    def ask(self, action: str, database: str = "jobs", **options: object) -> int:
        """Request a run over the API; return its number."""
        path = f"{self.url}/api/v1/databases/{database}/actions/{action}"
        answer = httpx.post(path, json=options, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=LONGEST_WAIT)
        return int(answer.raise_for_status().json()["run"])

    def finished(self, run_id: int) -> dict[str, object]:
        """Return the run once it has ended."""

        def ended() -> dict[str, object] | None:
            run: dict[str, object] = httpx.get(f"{self.url}/api/v1/runs/{run_id}", timeout=LONGEST_WAIT).json()
            return run if run["state"] == "ended" else None

        return dict(self.agent.wait(ended, f"run {run_id} to end"))


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Yield the scene once every database was polled in its state."""
    with ExitStack() as stack:
        queues = {name: prismq.create(folder / f"{name}.db") for name in ("jobs", "mail", "reports")}
        for queue in queues.values():
            stack.callback(queue.owner.close)
        jobs = queues["jobs"]
        jobs.put(number=40)
        jobs.put("completed", 120)
        jobs.put("dead_letter", 2, type=HOSTILE)
        jobs.leased(time() - 600, 3)
        queues["mail"].put(number=2)
        (folder / "found").mkdir()
        (folder / "found" / "notes.db").write_text("minutes of a meeting\n" * 200)
        (folder / "found" / STRANGE).write_text("nothing\n" * 200)
        queues["reports"].put(number=5)
        stack.enter_context(_report(folder))
        queues["reports"].fill_wal(2000)
        (folder / "token").write_text(TOKEN)
        (folder / "token").chmod(0o600)
        made = Scene(stack.enter_context(agent_process.agent(folder, CONFIG)), jobs)
        for action in ("backup", "drill"):
            assert made.finished(made.ask(action, "mail"))["outcome"] == "done"
        made.finished(made.ask("checkpoint", "reports"))
        made.agent.wait(lambda: states(made.url)["reports"] == "pinned", "the pinned WAL to be seen")
        yield made


@contextmanager
def _report(folder: Path) -> Iterator[None]:
    """Start a reader that never ends, like a report that was started by hand."""
    (folder / "report.py").write_text((prismq.HERE / "held_reader.py").read_text())
    command = ["python", "report.py", "reports.db", HOSTILE]
    environment = {**os.environ, "PYTHONPATH": str(Path(apsw.__file__).parent.parent)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(
        command, executable=sys.executable, cwd=folder, env=environment, text=True, **pipes
    ) as reader:  # fmt: skip
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            reader.kill()


def states(url: str) -> dict[str, str]:
    """Return the WAL state of each database."""
    shown = httpx.get(f"{url}/api/v1/databases", timeout=LONGEST_WAIT).json()["databases"]
    return {database["name"]: database["log"]["state"] if database["log"] else "" for database in shown}
