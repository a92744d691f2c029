"""Four troubles healed on real parts: by Prometheus, Alertmanager and the webhook, and by thresholds alone.

Each is wrong, one run puts it right, the same reading says so, and the alert resolves.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import yaml

from actions.store.runs import Run
from tests.end_to_end import test_loop_real as shipped
from tests.support.real.real_parts import Pair, RealPartError, free_addresses, running
from tests.support.scenes import agent_process
from tests.support.scenes.agent_process import AgentProcess
from tests.support.scenes.troubled_queues import ACTIONS, ALERTS, Troubled, config, troubled

pytestmark = pytest.mark.real
NAMES = list(ACTIONS)


@dataclass
class Healed:
    """What there is once all four are healed. `seconds`: from both servers being ready to the last alert's end."""

    agent: AgentProcess
    there: Troubled
    pair: Pair | None = None
    seconds: float = 0.0

    def run(self, name: str) -> Run:
        """The one run of this database."""
        (found,) = [run for run in self.agent.runs(name) if run.trigger != "person"]
        return found


def impatient_rules() -> str:
    """The shipped rules with bounds of a small queue's, as `rules render` gives them, that wait for half a second."""
    command = [sys.executable, "-m", "exporter.commands", "rules", "render", "--threshold", "free_room=1MiB"]
    loaded = yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for group in loaded["groups"]:
        group["interval"] = "250ms"
        for rule in group["rules"]:
            if "remediation" in rule["labels"]:
                rule["for"] = "500ms"
                rule["keep_firing_for"] = "10s"  # a scrape that a busy machine misses must not end an alert
    return str(yaml.safe_dump(loaded))


@pytest.fixture(scope="module")
def by_alerts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healed]:
    folder, addresses = tmp_path_factory.mktemp("alerts"), free_addresses()
    address = free_addresses().prometheus
    rules = folder / "pair" / "alerts" / shipped.RULES_FILE.name
    rules.parent.mkdir(parents=True)
    rules.write_text(impatient_rules())
    text = config(address, by_alert=True)
    with ExitStack() as stack:
        there = stack.enter_context(troubled(folder, text))
        agent = stack.enter_context(agent_process.agent(folder, text, address=address))
        prometheus = shipped.prometheus_config(addresses, address)
        alertmanager = shipped.alertmanager_config(address, folder / "token")
        pair = stack.enter_context(running(folder / "pair", addresses, prometheus, alertmanager))
        began = time.monotonic()
        made = Healed(agent, there, pair)
        pair.wait(lambda: all_ran(agent, there), "a run of each to end")
        try:
            pair.wait(lambda: all(resolved(pair, name) for name in NAMES), "every alert to resolve")
        except RealPartError as error:
            error.add_note("\n".join(str(run) for name in NAMES for run in agent.runs(name)))
            raise
        made.seconds = time.monotonic() - began
        print(f"healed and resolved {made.seconds:.1f} s after both servers were ready")
        yield made


def automatic(agent: AgentProcess, name: str) -> bool:
    """Whether a run that nobody asked for in person has ended."""
    return any(run.state == "ended" and run.trigger != "person" for run in agent.runs(name))


def all_ran(agent: AgentProcess, there: Troubled) -> bool:
    """Whether a run of each has ended. Once the log has started over, what starved it ends: it would do so again."""
    if automatic(agent, "starved"):
        there.end_starving()
    return all(automatic(agent, name) for name in NAMES)


def resolved(pair: Pair, name: str) -> bool:
    """Whether its alert fired and does no more."""
    alert = f'ALERTS{{alertname="{ALERTS[name]}", database="{name}", alertstate="firing"}}'
    return not pair.query(alert) and bool(pair.query(f"count_over_time({alert}[5m])"))


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_heals_it_with_one_run(by_alerts: Healed, name: str) -> None:
    run = by_alerts.run(name)
    assert (run.action, run.trigger, run.outcome, run.effect) == (ACTIONS[name], "alert", "done", "fixed"), run
    (fired,) = by_alerts.agent.read_history(
        f"SELECT fingerprint FROM alert_episode WHERE database = '{name}' AND run_id = {run.id} LIMIT 1"
    )
    assert run.episode == f"{fired[0]}/1"


def test_every_alert_was_heard_and_none_rejected(by_alerts: Healed) -> None:
    page = by_alerts.agent.scrape()
    for name in NAMES:
        assert page.value("queuekeeper_webhook_alerts_total", database=name, decision="accepted") == 1
    assert page.total("queuekeeper_webhook_alerts_total", decision="rejected") == 0


@pytest.fixture(scope="module")
def by_thresholds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Healed]:
    folder = tmp_path_factory.mktemp("thresholds")
    text = config("localhost:9977", by_alert=False)
    with troubled(folder, text) as there, agent_process.agent(folder, text) as agent:
        began = time.time()  # ready: each was read once
        agent.wait(lambda: all_ran(agent, there), "a run of each to end")
        made = Healed(agent, there)
        asked = {name: made.run(name).requested_at - began for name in NAMES}
        print("asked for so many seconds after the first reading:", {name: round(at, 1) for name, at in asked.items()})
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_a_threshold_alone_heals_it_with_one_run(by_thresholds: Healed, name: str) -> None:
    run = by_thresholds.run(name)
    assert (run.action, run.trigger, run.outcome, run.effect) == (ACTIONS[name], "threshold", "done", "fixed"), run


@pytest.fixture(scope="module", params=["by_alerts", "by_thresholds"])
def healed(request: pytest.FixtureRequest) -> Healed:
    found: Healed = request.getfixturevalue(request.param)
    return found


def test_the_log_has_started_over(healed: Healed) -> None:
    run = healed.run("starved")
    assert (run.before, run.after) == (1, 0)
    assert int(run.figures["wal_bytes"] or 0) < int(run.figures["wal_bytes_before"] or 0)


def test_the_tasks_were_given_back_once_and_a_live_workers_was_not(healed: Healed) -> None:
    tasks = healed.there.queues["stale"].owner.execute("SELECT status, attempts FROM task_queue ORDER BY id").fetchall()
    assert tasks == [("queued", 1)] * 3 + [("leased", 0)]


def test_there_is_a_new_verified_backup(healed: Healed) -> None:
    run = healed.run("old")
    assert run.before is not None
    assert run.after is not None
    assert run.before > 26 * 3600 > run.after
    healed.agent.wait(
        lambda: healed.agent.scrape().total("sqlite_backups", database="old", state="verified") == 2, "both on the page"
    )


def test_the_empty_pages_were_given_back(healed: Healed) -> None:
    run = healed.run("free")
    assert run.before is not None
    assert run.after is not None
    assert run.before > 0.3 > 0.1 >= run.after
    queue = healed.there.queues["free"]
    assert queue.value("PRAGMA integrity_check") == "ok"
    assert queue.value("SELECT count(*) FROM task_queue") == 50
    assert queue.value("PRAGMA page_count") < 100
