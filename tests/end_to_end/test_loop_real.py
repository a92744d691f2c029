"""The loop on real parts: a queue, the agent, Debian's Prometheus and Alertmanager, with the files that are shipped.

A lease goes stale, Prometheus scrapes it, the shipped rule fires, Alertmanager's shipped route calls the webhook, the
tasks are given back once, the alert resolves. Then much more happens, and every query of the dashboard has an answer.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import apsw
import pytest
import yaml

from actions.store.runs import Run
from tests.support.checks.dashboard_check import (
    ABSENT_WHILE_NOTHING_HAPPENED,
    live_findings,
    load_dashboard,
    load_rules,
    rule_findings,
)
from tests.support.patience import LONGEST_WAIT
from tests.support.real.real_parts import Addresses, Pair, free_addresses, require, running
from tests.support.scenes import agent_process, prismq
from tests.support.scenes.agent_process import AgentProcess, Scrape, command
from tests.support.scenes.queue_files import add, micro, owned, solid_queue

pytestmark = pytest.mark.real

GRAFANA = Path(__file__).resolve().parents[2] / "grafana"
RULES_FILE = GRAFANA / "alerts" / "queuekeeper.yaml"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
CONFIG = """\
identity: {address}
databases:
  - name: jobs
    path: FOLDER/jobs.db
    settings: {{grace: 2s}}
    backup: {{directory: FOLDER/backups}}
  - {{name: rails, path: FOLDER/rails.db}}
  - {{name: gone, path: FOLDER/gone.db}}
poll: {{interval: 1s}}
actions: {{enabled: true, allow: {{token_files: [FOLDER/token]}}}}
rules:
  - name: stale-leases
    when: {{sqlite_queue_stale_leases: {{above: 0}}}}
    on: {on}
    do: requeue
    options: {{guarded: true, limit: 500}}
    databases: [jobs]
  - name: wal-backlog
    when: {{sqlite_wal_backlog_bytes: {{above: 4MiB, clear: 1MiB}}}}
    on: {{threshold: {{for: 0s}}}}
    do: checkpoint
    cooldown: 2s
    databases: [jobs]
schedules:
  - {{name: yearly-drill, cron: "0 0 29 2 *", do: drill, databases: [jobs]}}
state: FOLDER/state
"""
BY_ALERT = """{alert: ['alertname="QueueStaleLeases"']}"""
BY_THRESHOLD = "{threshold: {for: 1s}}"


@dataclass
class Loop:
    """All parts of it."""

    agent: AgentProcess
    queue: prismq.Queue
    pair: Pair

    def given_back(self) -> list[Run]:
        """The requeues that did something. A scrape missed under load resolves the alert, which cancels what waits."""
        return [run for run in self.agent.runs("jobs") if run.action == "requeue" and run.outcome == "done"]

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """What fires in Prometheus under this name."""
        return [each["metric"] for each in self.pair.query(f'ALERTS{{alertname="{name}", alertstate="firing"}}')]


def swapped(text: str, changes: dict[str, str]) -> str:
    """A shipped file with what belongs to this test's machine replaced, each of which must be there."""
    for shipped, here in changes.items():
        assert shipped in text, f"{shipped} is no longer in the file"
        text = text.replace(shipped, here)
    return text


def prometheus_config(addresses: Addresses, agent: str) -> str:
    return swapped(
        (GRAFANA / "prometheus.yml").read_text(),
        {
            "scrape_interval: 15s": "scrape_interval: 1s",
            "evaluation_interval: 15s": "evaluation_interval: 250ms",
            "127.0.0.1:9093": addresses.alertmanager,
            "127.0.0.1:9977": agent,
        },
    )


def alertmanager_config(agent: str, token: Path) -> str:
    return swapped(
        (GRAFANA / "alertmanager.yml").read_text(),
        {
            "127.0.0.1:9977": agent,
            "/etc/prometheus/queuekeeper.token": str(token),
            "group_wait: 5s": "group_wait: 0s",
            "group_interval: 1m": "group_interval: 300ms",
            "repeat_interval: 30m": "repeat_interval: 300ms",
        },
    )


def impatient_rules() -> str:
    """The shipped rules, waiting for half a second instead of minutes; not those that give queuekeeper its time.

    A scrape that a busy machine misses must not end an alert: it fires for ten seconds more.
    """
    loaded = yaml.safe_load(RULES_FILE.read_text())
    for group in loaded["groups"]:
        group["interval"] = "250ms"
        for rule in group["rules"]:
            if not rule["alert"].endswith("NotRemediated"):
                rule["for"] = "500ms"
                rule["keep_firing_for"] = "10s"
    return yaml.safe_dump(loaded)


@contextmanager
def agent_on_a_queue(folder: Path, on: str, address: str) -> Iterator[tuple[AgentProcess, prismq.Queue]]:
    """A queue with four stale leases of two types and a live one, and an agent that may act on it."""
    queue = prismq.create(folder / "jobs.db")
    with ExitStack() as stack:
        stack.callback(queue.owner.close)
        queue.put(number=2)
        queue.leased(time() + 3600, 1)
        queue.leased(time() - 60, 3)
        queue.leased(time() - 60, 1, type="report")
        rails_queue(stack.enter_context(owned(folder / "rails.db", solid_queue())))
        (folder / "token").write_text("the-token-of-the-loop\n")
        (folder / "token").chmod(0o600)
        text = CONFIG.format(address=address, on=on)
        yield stack.enter_context(agent_process.agent(folder, text, address=address)), queue


def rails_queue(owner: apsw.Connection) -> None:
    """A queue that keeps a list of its workers: one lives, one died an hour ago; a job waits, one failed."""
    now = micro(time())
    for age in (0, 3600):
        add(owner, "solid_queue_processes", kind="Worker", pid=1, hostname="here", name=f"worker-{age}",
            last_heartbeat_at=micro(time() - age), created_at=micro(time() - age))  # fmt: skip
    for table in ("ready", "failed"):
        add(owner, "solid_queue_jobs", queue_name="mails", class_name="Mail", created_at=now, updated_at=now)
        own = {"queue_name": "mails"} if table == "ready" else {}
        job = owner.last_insert_rowid()
        add(owner, f"solid_queue_{table}_executions", job_id=job, created_at=now, **own)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """The whole loop, once the four stale leases were given back and the alert has resolved."""
    folder = tmp_path_factory.mktemp("loop")
    address, addresses = free_addresses().prometheus, free_addresses()
    (folder / "pair" / "alerts").mkdir(parents=True)
    (folder / "pair" / "alerts" / RULES_FILE.name).write_text(impatient_rules())
    with ExitStack() as stack:
        agent, queue = stack.enter_context(agent_on_a_queue(folder, BY_ALERT, address))
        alertmanager = alertmanager_config(address, folder / "token")
        pair = stack.enter_context(
            running(folder / "pair", addresses, prometheus_config(addresses, address), alertmanager)
        )
        made = Loop(agent, queue, pair)
        made.agent.wait(lambda: made.given_back(), "the tasks to be given back")
        pair.wait(lambda: not made.alerts("QueueStaleLeases"), "the alert to resolve in Prometheus")
        pair.wait(lambda: page_tells_of(made.agent, resolved=True), "Alertmanager to say that it resolved")
        yield made


def page_tells_of(agent: AgentProcess, *, resolved: bool) -> bool:
    """Whether no episode fires any more (or one does), as the agent was told."""
    firing = len(agent.read_history("SELECT 1 FROM alert_episode WHERE state = 'firing'"))
    known = len(agent.read_history("SELECT 1 FROM alert_episode"))
    return known > 0 and (firing == 0) == resolved


def test_the_stale_leases_are_given_back_exactly_once(loop: Loop) -> None:
    tasks = loop.queue.owner.execute("SELECT type, status, attempts, locked_by FROM task_queue ORDER BY id").fetchall()
    assert tasks == [
        *[("mail", "queued", 0, None)] * 2,
        ("mail", "leased", 0, "worker-1"),
        *[("mail", "queued", 1, None)] * 3,
        ("report", "queued", 1, None),
    ]
    runs = loop.given_back()
    assert [(run.trigger, run.rule) for run in runs] == [("alert", "stale-leases")]
    assert runs[0].figures["requeued"] == 4
    assert (runs[0].before, runs[0].after, runs[0].effect) == (4, 0, "fixed")


def test_the_whole_way_is_counted(loop: Loop) -> None:
    page = loop.agent.scrape()
    assert page.value("queuekeeper_action_triggers_total", action="requeue", trigger="alert") >= 1
    assert page.value("queuekeeper_action_requeued_tasks_total", database="jobs") == 4
    assert page.value("queuekeeper_remediation_effect_total", database="jobs", rule="stale-leases", effect="fixed") == 1
    assert page.value("queuekeeper_webhook_alerts_total", database="jobs", decision="accepted") >= 1
    assert page.total("queuekeeper_webhook_alerts_total", decision="rejected") == 0
    assert page.total("queuekeeper_webhook_alerts_total", decision="no_match") == 0
    refused = {dict(labels)["code"]: n for labels, n in page.series("queuekeeper_webhook_requests_total").items() if n}
    assert set(refused) == {"202"}


def test_the_alert_fired_for_both_queues_and_is_gone(loop: Loop) -> None:
    fired = loop.pair.query('max_over_time(ALERTS{alertname="QueueStaleLeases", alertstate="firing"}[5m])')
    assert {each["metric"]["queue"] for each in fired} == {"mail", "report"}
    assert {each["metric"]["remediation"] for each in fired} == {"requeue"}
    assert loop.alerts("QueueStaleLeases") == []
    assert loop.alerts("QueueStaleLeasesNotRemediated") == []


def test_promtool_finds_nothing_to_complain_about_in_the_live_page(loop: Loop) -> None:
    page = loop.agent.get().raise_for_status().content
    found = subprocess.run([require("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, b"")


@pytest.fixture(scope="module")
def eventful(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """The loop after a day in a minute: a reader, a backlog, a checkpoint, backups, a failure; an action hangs just now."""
    with prismq.process("held_reader.py", loop.queue.path) as reader:
        loop.queue.fill_wal(1500)
        on_page(loop, lambda page: page.total("sqlite_wal_pinned_seconds", database="jobs") > 0, "the pin")
        on_page(loop, lambda page: effects(page, "wal-backlog", "blocked") > 0, "the blocked checkpoint")
        assert reader.stdin is not None
        reader.stdin.close()
        reader.wait(LONGEST_WAIT)
    on_page(loop, lambda page: effects(page, "wal-backlog", "fixed") > 0, "the checkpoint that helped")
    backup = command(loop.agent, "backup", "jobs")
    assert backup.returncode == 0, backup.stderr
    no_folder = tmp_path_factory.mktemp("eventful") / "file"
    no_folder.touch()
    failed = command(loop.agent, "backup", "jobs", "--to", str(no_folder))
    assert failed.returncode == 1, failed.stdout + failed.stderr
    on_page(loop, lambda page: page.total("queuekeeper_action_last_failure_timestamp_seconds") > 0, "the failure")
    on_page(loop, lambda page: page.total("sqlite_backup_age_seconds", database="jobs") > 0, "the backup's age")
    drilled(loop)
    with hanging_action(loop), prismq.process("held_reader.py", loop.queue.path):
        loop.queue.put()
        loop.pair.wait(lambda: not unseen(loop.pair), "Prometheus to see all that can happen")
        yield loop


def drilled(loop: Loop) -> None:
    """A check, a drill that brought the queue back, and one of a second backup that the disk has damaged since."""
    for words in (["integrity", "jobs", "--full"], ["backups", "drill", "jobs"], ["backup", "jobs"]):
        good = command(loop.agent, *words)
        assert good.returncode == 0, good.stdout + good.stderr
    newest = max((loop.agent.folder / "backups" / "jobs").glob("*.db"))
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    bad = command(loop.agent, "backups", "drill", "jobs")
    assert bad.returncode == 5, bad.stdout + bad.stderr


def unseen(pair: Pair) -> list[str]:
    """What a dashboard asks for and Prometheus does not see now, or saw only once: an increase takes two samples."""
    seen = (f"{name} and count_over_time({name}[1m]) > 1" for name in sorted(ABSENT_WHILE_NOTHING_HAPPENED))
    return [expression for expression in seen if not pair.query(expression)]


def on_page(loop: Loop, check: Callable[[Scrape], bool], what: str) -> None:
    loop.agent.wait(lambda: check(loop.agent.scrape()), f"{what} on the page")


def effects(page: Scrape, rule: str, effect: str) -> float:
    return page.total("queuekeeper_remediation_effect_total", database="jobs", rule=rule, effect=effect)


@contextmanager
def hanging_action(loop: Loop) -> Iterator[None]:
    """A backup of a person, stopped in its tracks while it runs."""
    line = [*agent_process.COMMAND, "backup", "jobs", f"--config.file={loop.agent.config}"]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as person:
        child = loop.agent.wait(lambda: running_child(loop.agent), "the backup to run")
        os.kill(child, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(child, signal.SIGCONT)
            assert person.wait(LONGEST_WAIT) == 0


def running_child(agent: AgentProcess) -> int | None:
    """The process of the action that runs now."""
    children = [run.child for run in agent.runs() if run.state == "running"]
    return int(children[0].partition(":")[0]) if children else None


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_the_dashboard_returns_data(eventful: Loop, dashboard: Path) -> None:
    found = live_findings(eventful.pair.prometheus, load_dashboard(dashboard))
    assert "\n".join(f"{each.where}: {each.what}" for each in found) == ""


def test_every_selector_of_the_rules_matches_a_real_series(eventful: Loop) -> None:
    assert rule_findings(eventful.pair.prometheus, load_rules(RULES_FILE)) == []


def test_the_same_queue_heals_by_a_threshold_alone(tmp_path: Path) -> None:
    with agent_on_a_queue(tmp_path, BY_THRESHOLD, free_addresses().prometheus) as (agent, queue):
        (run,) = agent.ended()
        assert (run.outcome, run.trigger, run.rule, run.effect) == ("done", "threshold", "stale-leases", "fixed")
        assert queue.value("SELECT sum(attempts) FROM task_queue") == 4
        agent.wait(lambda: agent.scrape().total("sqlite_queue_stale_leases") == 0, "the page to say so")
        page = agent.scrape()
        assert page.value("queuekeeper_action_triggers_total", action="requeue", trigger="threshold") == 1
        assert page.total("queuekeeper_webhook_requests_total") == 0
        assert [run.id for run in agent.runs()] == [1]
