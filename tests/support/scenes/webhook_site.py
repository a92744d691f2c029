"""An agent with the webhook, a queue that it may act on, and a client in the part of Alertmanager, for the webhook's tests."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import httpx
import pytest

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import agent_process, prismq
from tests.support.scenes.agent_process import AgentProcess

TOKEN = "correct-horse-battery-staple-0123456789"
CONFIG = """\
{top}
databases:
  - {{name: jobs, path: FOLDER/jobs.db, settings: {{grace: 2s}}}}
  - {{name: other, path: FOLDER/other.db, settings: {{grace: 2s}}}}
poll: {{interval: 1s}}
actions: {{enabled: {enabled}, allow: {{token_files: {files}}}}}
rules:
  - name: stale-leases
    when: {{sqlite_queue_stale_leases: {{above: 0}}}}
    on: {{alert: ['alertname="QueueStaleLeases"']}}
    do: requeue
    options: {{guarded: true, limit: 500}}
    cooldown: {cooldown}
    databases: [jobs]
  - name: wal-backlog
    when: {{sqlite_wal_backlog_bytes: {{above: 1MiB}}}}
    on: {{alert: ['alertname="QueueWalBacklog"']}}
    do: checkpoint
    cooldown: {cooldown}
    databases: [jobs]
state: FOLDER/state
"""


def config(cooldown: str = "0s", *, enabled: bool = True, files: str = "[FOLDER/token]", top: str = "") -> str:
    """Return a configuration without a cooldown, so that only the episode prevents a second run."""
    return CONFIG.format(cooldown=cooldown, enabled=str(enabled).lower(), files=files, top=top)


@dataclass
class Site:
    """An agent, the queue `jobs` it may act on, and the part of Alertmanager."""

    agent: AgentProcess
    queue: prismq.Queue
    deliveries: int = field(default=0)

    def post(self, body: dict[str, Any], headers: Any = None, path: str = "") -> httpx.Response:
        """Send a delivery, by default with the right token."""
        given = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        return httpx.post(
            f"{self.agent.url}/api/v1/alerts{path}", json=body, headers=given, timeout=LONGEST_WAIT, verify=False
        )

    def decisions(self, body: dict[str, Any]) -> list[str]:
        """Return the decisions on an accepted delivery, alert by alert."""
        answer = self.post(body)
        assert answer.status_code == 202, answer.text
        return [each["decision"] for each in answer.json()["decisions"]]

    def stale(self, number: int = 3) -> None:
        """Add so many tasks whose worker is gone."""
        self.queue.leased(time() - 60, number)

    def running(self) -> int:
        """Return the number of leased tasks, read from the queue."""
        return int(self.queue.value("SELECT count(*) FROM task_queue WHERE status = 'leased'"))

    def requeues(self) -> int:
        """Return how often tasks were requeued, read from the queue."""
        return int(self.queue.value("SELECT coalesce(sum(attempts), 0) FROM task_queue"))

    def counted(self, decision: str, database: str = "jobs") -> float | None:
        """Return the counter of a decision on the metrics page."""
        name = "queuekeeper_webhook_alerts_total"
        return self.agent.scrape(name).value(name, decision=decision, database=database)


def alert(status: str = "firing", **changes: Any) -> dict[str, Any]:
    """Return one alert as Alertmanager sends it; `labels` are added to the usual ones."""
    labels = {
        "alertname": "QueueStaleLeases", "database": "jobs", "queue": "mail", "instance": "a:9977", "severity": "info",
        **changes.pop("labels", {}),
    }  # fmt: skip
    return {
        "status": status,
        "labels": labels,
        "annotations": {"summary": "Tasks are held by workers that are gone."},
        "startsAt": "2026-01-01T00:00:43.394Z",
        "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else "2026-01-01T00:10:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "c0ffee0123456789",
        **changes,
    }


def delivery(*alerts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return Alertmanager's payload, version 4."""
    delivered = alerts or (alert(),)
    return {
        "version": "4",
        "groupKey": '{}/{remediation=~".+"}:{alertname="QueueStaleLeases"}',
        "truncatedAlerts": 0,
        "status": "firing" if any(each["status"] == "firing" for each in delivered) else "resolved",
        "receiver": "queuekeeper",
        "groupLabels": {"alertname": "QueueStaleLeases"},
        "commonLabels": delivered[0]["labels"],
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(delivered),
        **changes,
    }


@contextmanager
def site(folder: Path, text: str, wrapper: tuple[str, ...] = ()) -> Iterator[Site]:
    """Yield a site in a folder."""
    with ExitStack() as stack:
        queue, other = (prismq.create(folder / f"{name}.db") for name in ("jobs", "other"))
        for each in (queue, other):
            stack.callback(each.owner.close)
        (folder / "token").write_text(f"# of the test\n{TOKEN}\n")
        (folder / "token").chmod(0o600)
        yield Site(stack.enter_context(agent_process.agent(folder, text, wrapper=wrapper)), queue)


def acted_once(there: Site, tasks: int = 3) -> None:
    """Check that there was exactly one run, and that each task was requeued exactly once."""
    (run,) = there.agent.ended()
    assert (run.outcome, run.trigger, run.rule, run.effect) == ("done", "alert", "stale-leases", "fixed"), run
    assert there.requeues() == tasks
    page = there.agent.wait(lambda: with_its_totals(there, tasks), "the page to tell of the run")
    assert page.value("queuekeeper_action_triggers_total", action="requeue", trigger="alert") == 1
    assert page.value("queuekeeper_action_runs_total", database="jobs", action="requeue", outcome="done") == 1


def with_its_totals(there: Site, tasks: int) -> agent_process.Scrape | None:
    """Return the metrics page once it counts the run: the dispatcher reads the totals a moment later."""
    page = there.agent.scrape()
    return page if page.value("queuekeeper_action_requeued_tasks_total", database="jobs") == tasks else None


@contextmanager
def full(folder: Path) -> Iterator[Path]:
    """A small file system of its own over this folder; yields the file whose removal makes room on it again."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "none", folder], check=True)
    try:
        yield folder / "ballast"
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    assert shutil.disk_usage(ballast.parent).free == 0
