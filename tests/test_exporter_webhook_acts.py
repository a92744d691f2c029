"""Alertmanager's webhook on a real agent and a real queue: who may make it act, and how often it does.

Whether it acted is counted in the queue itself (`attempts` grows with every requeue) and in our history.
"""

import base64
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any

import agent_process
import httpx
import prismq
import pytest
from agent_process import AgentProcess

from actions.history.settings import pause, resume
from actions.history.store import history

TOKEN = "correct-horse-battery-staple-0123456789"
WRITABLE = "queuekeeper_state_writable"
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
    """Without a cooldown nothing but the episode keeps a delivery from acting again."""
    return CONFIG.format(cooldown=cooldown, enabled=str(enabled).lower(), files=files, top=top)


@dataclass
class Site:
    """An agent, the queue `jobs` it may act upon, and Alertmanager's part."""

    agent: AgentProcess
    queue: prismq.Queue
    deliveries: int = field(default=0)

    def post(self, body: dict[str, Any], headers: Any = None, path: str = "") -> httpx.Response:
        """A delivery, by default with the right token."""
        given = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        return httpx.post(f"{self.agent.url}/api/v1/alerts{path}", json=body, headers=given, timeout=10)

    def decisions(self, body: dict[str, Any]) -> list[str]:
        """What the agent answers to an accepted delivery, alert by alert."""
        answer = self.post(body)
        assert answer.status_code == 202, answer.text
        return [each["decision"] for each in answer.json()["decisions"]]

    def stale(self, number: int = 3) -> None:
        """So many tasks whose worker is gone."""
        self.queue.leased(time() - 60, number)

    def running(self) -> int:
        """Tasks that a worker holds, so says the queue."""
        return int(self.queue.value("SELECT count(*) FROM task_queue WHERE status = 'leased'"))

    def requeues(self) -> int:
        """How often any task was given back, so says the queue."""
        return int(self.queue.value("SELECT coalesce(sum(attempts), 0) FROM task_queue"))

    def counted(self, decision: str, database: str = "jobs") -> float | None:
        """The decision's counter on the page."""
        return self.agent.scrape().value("queuekeeper_webhook_alerts_total", decision=decision, database=database)


def alert(status: str = "firing", **changes: Any) -> dict[str, Any]:
    """One alert as Alertmanager sends it; `labels` are added to the usual ones."""
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
    """Alertmanager's payload, version 4."""
    found = alerts or (alert(),)
    return {
        "version": "4",
        "groupKey": '{}/{remediation=~".+"}:{alertname="QueueStaleLeases"}',
        "truncatedAlerts": 0,
        "status": "firing" if any(each["status"] == "firing" for each in found) else "resolved",
        "receiver": "queuekeeper",
        "groupLabels": {"alertname": "QueueStaleLeases"},
        "commonLabels": found[0]["labels"],
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": list(found),
        **changes,
    }


@contextmanager
def site(folder: Path, text: str, wrapper: tuple[str, ...] = ()) -> Iterator[Site]:
    """A site in a folder."""
    with ExitStack() as stack:
        queue, other = (prismq.create(folder / f"{name}.db") for name in ("jobs", "other"))
        for each in (queue, other):
            stack.callback(each.owner.close)
        (folder / "token").write_text(f"# of the test\n{TOKEN}\n")
        (folder / "token").chmod(0o600)
        yield Site(stack.enter_context(agent_process.agent(folder, text, wrapper=wrapper)), queue)


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes a site of a configuration text."""
    with ExitStack() as stack:
        yield lambda text: stack.enter_context(site(tmp_path, text))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all who may not act on it: it has stale leases, and must still have them at the end."""
    with site(tmp_path_factory.mktemp("guarded"), config()) as made:
        made.stale(3)
        yield made
        assert made.agent.runs() == []
        assert made.requeues() == 0
        # The positive control: the same delivery with the right token acts, so what was refused was worth refusing.
        assert made.decisions(delivery()) == ["accepted"]
        made.agent.ended()
        assert made.requeues() == 3


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


DENIED: dict[str, Any] = {
    "no token": {},
    "a wrong token": {"Authorization": "Bearer wrong"},
    "half a token": {"Authorization": f"Bearer {TOKEN[: len(TOKEN) // 2]}"},
    "a token and more": {"Authorization": f"Bearer {TOKEN}x"},
    "a token in other case": {"Authorization": f"Bearer {TOKEN.upper()}"},
    "the digest of the token": {"Authorization": f"Bearer {hashlib.sha256(TOKEN.encode()).hexdigest()}"},
    "the comment of the token file": {"Authorization": "Bearer # of the test"},
    "a scheme without a token": {"Authorization": "Bearer"},
    "a bare token": {"Authorization": TOKEN},
    "another scheme": {"Authorization": f"Token {TOKEN}"},
    "basic auth with the token as password": {"Authorization": basic("alertmanager", TOKEN)},
    "basic auth with the token as user": {"Authorization": basic(TOKEN, "")},
    "two headers, one of them right": [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer wrong")],
    "the token in a cookie": {"Cookie": f"token={TOKEN}; access_token={TOKEN}"},
    "the token in another header": {"X-Api-Key": TOKEN, "Proxy-Authorization": f"Bearer {TOKEN}"},
}


@pytest.mark.parametrize("headers", DENIED.values(), ids=DENIED.keys())
def test_without_the_right_token_it_never_acts(guarded: Site, headers: Any) -> None:
    before = guarded.agent.scrape().value("queuekeeper_webhook_requests_total", code="401") or 0.0
    answer = guarded.post(delivery(), headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert TOKEN not in answer.text
    assert guarded.agent.runs() == []
    assert guarded.running() == 3
    assert guarded.agent.scrape().value("queuekeeper_webhook_requests_total", code="401") == before + 1


@pytest.mark.parametrize("path", [f"?token={TOKEN}", f"?access_token={TOKEN}&authorization=Bearer%20{TOKEN}"])
def test_a_token_in_the_address_is_none(guarded: Site, path: str) -> None:
    assert guarded.post(delivery(), {}, path).status_code == 401
    assert guarded.agent.runs() == []


def test_a_token_in_the_body_is_none(guarded: Site) -> None:
    assert guarded.post(delivery(token=TOKEN, access_token=TOKEN), {}).status_code == 401
    assert guarded.agent.runs() == []


def test_only_a_post_is_a_delivery(guarded: Site) -> None:
    right = {"Authorization": f"Bearer {TOKEN}"}
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = httpx.request(method, f"{guarded.agent.url}/api/v1/alerts", headers=right, timeout=5)
        assert answer.status_code == 405
    assert guarded.agent.runs() == []


def test_the_token_is_nowhere_in_the_log(guarded: Site) -> None:
    guarded.post(delivery(), {"Authorization": f"Bearer {TOKEN}x"})
    assert TOKEN not in guarded.agent.log.read_text()


@pytest.mark.parametrize(
    ("text", "reason"),
    [(config(enabled=False), "actions.enabled"), (config(files="[]"), "actions.allow.token_files")],
    ids=["acting disabled", "nobody allowed"],
)
def test_where_nobody_may_act_the_right_looking_token_is_refused_with_the_cure(
    make_site: Callable[..., Site], text: str, reason: str
) -> None:
    there = make_site(text)
    there.stale()
    answer = there.post(delivery())
    assert answer.status_code == 403
    assert reason in answer.json()["error"]
    assert there.agent.runs() == []
    assert there.running() == 3
    assert there.agent.scrape().value("queuekeeper_webhook_requests_total", code="403") == 1


def acted_once(there: Site, tasks: int = 3) -> None:
    """Exactly one run, and each task was given back exactly once."""
    (run,) = there.agent.ended()
    assert (run.outcome, run.trigger, run.rule, run.effect) == ("done", "alert", "stale-leases", "fixed"), run
    assert there.requeues() == tasks
    page = there.agent.wait(lambda: with_its_totals(there, tasks), "the page to tell of the run")
    assert page.value("queuekeeper_action_triggers_total", action="requeue", trigger="alert") == 1
    assert page.value("queuekeeper_action_runs_total", database="jobs", action="requeue", outcome="done") == 1


def with_its_totals(there: Site, tasks: int) -> agent_process.Scrape | None:
    """The page once it tells of the run: the dispatcher reads its history again a moment later."""
    page = there.agent.scrape()
    return page if page.value("queuekeeper_action_requeued_tasks_total", database="jobs") == tasks else None


def test_delivered_four_times_it_acts_once(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    assert there.decisions(delivery()) == ["accepted"]
    acted_once(there)
    there.stale(2)  # what a second act would give back
    earlier = alert(startsAt="2026-01-01T00:00:40.897Z")
    assert there.decisions(delivery()) == ["duplicate"]
    assert there.decisions(delivery(earlier, externalURL="http://the-other-alertmanager:9093")) == ["duplicate"]
    assert there.decisions(delivery(earlier, alert(startsAt=""))) == ["duplicate", "duplicate"]
    acted_once(there)
    assert there.running() == 2
    assert there.counted("accepted") == 1
    assert there.counted("duplicate") == 4


def test_delivered_by_four_at_once_it_acts_once(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    with ThreadPoolExecutor(4) as pool:
        answers = [decision for found in pool.map(there.decisions, [delivery()] * 4) for decision in found]
    assert sorted(answers) == ["accepted", "duplicate", "duplicate", "duplicate"]
    acted_once(there)


def test_a_resolution_that_comes_first_is_no_episode(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    assert there.decisions(delivery(alert("resolved"))) == ["resolved"]
    assert there.agent.runs() == []
    assert [there.decisions(delivery()) for _ in range(4)] == [["accepted"], *[["duplicate"]] * 3]
    acted_once(there)


def test_a_restart_between_deliveries_changes_nothing(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    assert there.decisions(delivery()) == ["accepted"]
    acted_once(there)
    for end in (there.agent.stop, there.agent.kill):
        end()
        there.agent.start()
        there.stale(1)
        assert there.decisions(delivery()) == ["duplicate"]
    acted_once(there)
    assert there.running() == 2


def test_what_was_answered_202_and_not_begun_is_done_once_by_the_next_agent(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    with history(there.agent.state) as store:
        pause(store, "the test holds it between the answer and the act")
    assert there.decisions(delivery()) == ["accepted"]
    there.agent.kill()
    assert [run.state for run in there.agent.runs()] == ["pending"]
    with history(there.agent.state) as store:
        resume(store)
    there.agent.start()
    assert there.decisions(delivery()) == ["duplicate"]
    acted_once(there)


def test_what_waits_is_not_claimed_before_the_databases_are_known(
    make_site: Callable[..., Site], tmp_path: Path
) -> None:
    there = make_site(config().replace("databases:\n", "databases:\n  - {path: FOLDER/tree/*/*/*.db}\n", 1))
    there.stale(3)
    with history(there.agent.state) as store:
        pause(store, "the test holds it until the next start")
    assert there.decisions(delivery()) == ["accepted"]
    there.agent.kill()
    for number in range(3000):  # looking for databases takes a while now
        (tmp_path / "tree" / str(number) / "sub").mkdir(parents=True)
    with history(there.agent.state) as store:
        resume(store)
    there.agent.start()
    acted_once(there)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_was_begun_when_the_agent_ended_is_done_once_in_the_end(make_site: Callable[..., Site], how: str) -> None:
    there = make_site(config())
    there.stale(3)
    there.queue.owner.execute("BEGIN IMMEDIATE")  # the application writes: the child waits for the write lock
    assert there.decisions(delivery()) == ["accepted"]
    there.agent.wait(lambda: there.agent.runs()[0].plan, "the plan to be recorded")
    getattr(there.agent, how)()
    there.queue.owner.execute("COMMIT")
    there.agent.start()
    there.agent.wait(lambda: there.decisions(delivery()) and there.requeues(), "the tasks to be given back")
    there.agent.ended()
    assert there.requeues() == 3
    assert there.running() == 0
    runs = [(run.outcome, run.reason, run.figures.get("requeued", 0)) for run in there.agent.runs()]
    assert sum(int(requeued or 0) for *_, requeued in runs) == 3, runs
    assert there.decisions(delivery()) == ["duplicate"]


def test_an_alert_whose_run_was_blocked_is_acted_upon_when_the_way_is_free(
    make_site: Callable[..., Site], held_reader: Callable[[Path], Any]
) -> None:
    there = make_site(config())
    there.queue.put()
    there.queue.fill_wal(300)
    backlog = delivery(alert(labels={"alertname": "QueueWalBacklog", "queue": ""}, fingerprint="beef"))
    with held_reader(there.queue.path):
        there.queue.fill_wal(300)
        assert there.decisions(backlog) == ["accepted"]
        (run,) = there.agent.ended()
        assert (run.outcome, run.effect) == ("blocked", "blocked"), run
    assert there.agent.scrape().total("queuekeeper_action_last_failure_timestamp_seconds") == 0  # nothing failed
    assert there.decisions(backlog) == ["accepted"]
    assert [run.outcome for run in there.agent.ended(2)] == ["blocked", "done"]
    assert there.decisions(backlog) == ["duplicate"]


def test_resolved_and_firing_again_is_a_new_episode_that_acts_after_the_cooldown(
    make_site: Callable[..., Site],
) -> None:
    there = make_site(config(cooldown="3s"))
    there.stale(3)
    assert there.decisions(delivery()) == ["accepted"]
    acted_once(there)
    assert there.decisions(delivery(alert("resolved"))) == ["resolved"]
    there.stale(2)
    assert there.decisions(delivery()) == ["cooldown"]
    acted_once(there)
    there.agent.wait(lambda: there.decisions(delivery()) == ["accepted"], "the cooldown to be over")
    there.agent.ended(2)
    assert there.decisions(delivery()) == ["duplicate"]
    assert len(there.agent.runs()) == 2
    assert there.requeues() == 5


def test_the_condition_is_the_queues_and_not_the_alerts(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.queue.leased(time() + 600, 3)  # live workers, whatever the alert says
    assert there.decisions(delivery()) == ["accepted"]
    (run,) = there.agent.ended()
    assert run.outcome == "nothing_to_do"
    assert there.running() == 3


@pytest.mark.parametrize(
    ("labels", "decision", "database"),
    [
        ({"database": "payroll"}, "rejected", ""),
        ({"database": "../../etc/passwd"}, "rejected", ""),
        ({"database": ""}, "rejected", ""),
        ({"alertname": "SomethingElse"}, "no_match", "jobs"),
        ({"database": "other"}, "no_match", "other"),
        ({"instance": "b:9977"}, "rejected", ""),
        ({"instance": ""}, "rejected", ""),
    ],
    ids=str,
)
def test_an_alert_that_selects_nothing_is_counted_and_never_acted_upon(
    identified: Site, labels: dict[str, str], decision: str, database: str
) -> None:
    before = identified.counted(decision, database) or 0.0
    assert identified.decisions(delivery(alert(labels=labels))) == [decision]
    assert identified.agent.runs() == []
    assert identified.running() == 3
    assert identified.counted(decision, database) == before + 1


@pytest.fixture(scope="module")
def identified(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose agent knows its name; the alert that means it acts in the end, so the others could have."""
    with site(tmp_path_factory.mktemp("identified"), config(top="identity: a:9977")) as made:
        made.stale(3)
        yield made
        assert made.decisions(delivery()) == ["accepted"]
        made.agent.ended()
        assert made.requeues() == 3


def test_options_and_actions_in_the_payload_are_only_text(make_site: Callable[..., Site]) -> None:
    there = make_site(config())
    there.stale(3)
    asked = alert(labels={"remediation": "vacuum", "action": "purge", "limit": "1", "path": "/etc/passwd"}, do="purge")
    assert there.decisions(delivery(asked, options={"limit": 1})) == ["accepted"]
    acted_once(there)


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
    """Write until nothing fits any more."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    assert shutil.disk_usage(ballast.parent).free == 0


def test_with_a_full_state_directory_it_answers_503_and_acts_when_there_is_room_again(tmp_path: Path) -> None:
    with full(tmp_path / "state") as ballast, site(tmp_path, config()) as there:
        there.stale(3)
        fill(ballast)
        answers = [there.post(delivery()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert "free space" in answers[0].json()["error"]
        assert there.running() == 3
        assert there.agent.scrape().value("queuekeeper_webhook_requests_total", code="503") == 3
        assert there.counted("accepted") is None
        there.agent.wait(lambda: there.agent.scrape().value(WRITABLE) == 0, "the page to say that it cannot write")
        ballast.unlink()
        there.agent.wait(lambda: there.agent.scrape().value(WRITABLE) == 1, "the page to say that it can write again")
        assert there.agent.runs() == []
        assert there.decisions(delivery()) == ["accepted"]
        acted_once(there)
        there.agent.stop()


def test_with_a_read_only_state_directory_it_answers_503_and_acts_when_it_is_writable_again(tmp_path: Path) -> None:
    with site(tmp_path, config(), bound_by_permissions()) as there:
        there.stale(3)
        kept = there.agent.state / "kept"
        files = [*there.agent.state.iterdir()]
        assert kept not in files
        for place in (*files, there.agent.state):
            place.chmod(0o500 if place.is_dir() else 0o400)
        answers = [there.post(delivery()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [503] * 3
        assert "make it writable" in answers[0].json()["error"]
        assert there.running() == 3
        for place in (there.agent.state, *files):
            place.chmod(0o700 if place.is_dir() else 0o600)
        assert there.agent.runs() == []
        assert there.decisions(delivery()) == ["accepted"]
        acted_once(there)


def bound_by_permissions() -> tuple[str, ...]:
    """What makes root obey the permissions of files, too."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not there, and root writes whatever the permissions say")
    return ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
