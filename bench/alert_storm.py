"""An alert for everything at once: `python bench/alert_storm.py [--databases 200] [--alerts 5000] [--seconds 60]`.

Every database has stale leases and every alert is a new one, so each would be acted upon. Measured: how soon each delivery
is answered, what scrapes feel of it beside the same scrapes before (the control), the agent's memory, how many databases
were acted upon within the rule's radius, and that what was answered 202 is stored. The floor: a synced write meanwhile.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import apsw
import fleet
import httpx
from processes import percentile

HERE = Path(__file__).parent
TOKEN = "a-token-for-the-storm-0123456789"
CONFIG = """\
databases: [{{path: {folder}/queues/*.db, settings: {{grace: 2s}}}}]
actions: {{enabled: true, allow: {{token_files: [{folder}/token]}}}}
rules:
  - name: stale-leases
    when: {{sqlite_queue_stale_leases: {{above: 0}}}}
    on: {{alert: ['alertname="QueueStaleLeases"']}}
    do: requeue
    options: {{guarded: true, limit: 500}}
state: {folder}/state
"""
SENDERS = 8
CALM = 10.0


@dataclass
class Measured:
    """Seconds of answers, by what was asked."""

    answers: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    scrapes: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    synced: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--databases", type=int, default=200)
    parser.add_argument("--alerts", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qk-storm-") as name:
        folder = Path(name)
        prepare(folder, given.databases)
        keeper = subprocess.Popen(
            [sys.executable, str(HERE / "fleet.py"), str(folder / "queues"), str(given.databases), "own"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert keeper.stdout is not None
        keeper.stdout.readline()
        agent, url = start(folder)
        try:
            report(folder, given, *storm(agent, url, given))
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(30)
            keeper.kill()
            keeper.wait()


def prepare(folder: Path, databases: int) -> None:
    """Every queue has five tasks whose worker is gone."""
    fleet.make(folder / "queues", databases)
    for path in (folder / "queues").glob("*.db"):
        connection = apsw.Connection(str(path))
        connection.execute(
            "UPDATE task_queue SET status = 'leased', locked_by = 'gone', lease_until_utc = datetime('now', '-1 hour')"
            " WHERE id <= 5"
        )
        connection.close()
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    (folder / "queuekeeper.yaml").write_text(CONFIG.format(folder=folder))


def start(folder: Path) -> tuple["subprocess.Popen[bytes]", str]:
    """The agent, once it has read every database."""
    command = [sys.executable, "-m", "exporter.commands", "serve", f"--config.file={folder}/queuekeeper.yaml"]
    with (folder / "log").open("wb") as log:
        agent = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0", "--log.format=json"], stderr=log)
    url = ""
    while not url:
        time.sleep(0.1)
        for line in (folder / "log").read_text().splitlines():
            with suppress(ValueError):
                url = json.loads(line).get("address", url)
    while httpx.get(f"{url}/-/ready", timeout=30).status_code != 200:
        time.sleep(0.2)
    return agent, url


def storm(agent: "subprocess.Popen[bytes]", url: str, given: argparse.Namespace) -> tuple[Measured, Measured]:
    """Measures the time before the storm and the storm. The scraper is a process of its own: senders must not delay it."""
    with ProcessPoolExecutor(1) as scraping, ThreadPoolExecutor(SENDERS) as pool:
        calm = scraping.submit(watch, agent.pid, url, CALM).result()
        watching = scraping.submit(watch, agent.pid, url, given.seconds)
        sent, begun = Measured(), time.monotonic()
        list(pool.map(lambda which: send(url, given, which, begun, sent), range(SENDERS)))
        stormy = watching.result()
    return calm, replace(stormy, answers=sent.answers, codes=sent.codes)


def send(url: str, given: argparse.Namespace, which: int, begun: float, into: Measured) -> None:
    """This sender's share of the alerts, each at its time."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30) as client:
        for number in range(which, given.alerts, SENDERS):
            time.sleep(max(0.0, begun + given.seconds * number / given.alerts - time.monotonic()))
            sent = time.monotonic()
            answer = client.post("/api/v1/alerts", json=delivery(number, given.databases))
            into.answers.append(time.monotonic() - sent)
            into.codes[answer.status_code] += 1


def delivery(number: int, databases: int) -> dict[str, object]:
    labels = {"alertname": "QueueStaleLeases", "database": f"q{number % databases:05d}", "queue": f"mail-{number}"}
    alert = {"status": "firing", "labels": labels, "fingerprint": f"{number:016x}", "startsAt": "2026-01-01T00:00:00Z"}
    return {"version": "4", "receiver": "queuekeeper", "status": "firing", "alerts": [alert]}


def watch(pid: int, url: str, seconds: float) -> Measured:
    """Scrape twice a second, and look at the memory of the agent itself."""
    into, ends = Measured(), time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=30) as client:
        while time.monotonic() < ends:
            into.synced.append(synced_write())
            begun = time.monotonic()
            client.get("/metrics", headers={"Accept-Encoding": "gzip"}).raise_for_status()
            into.scrapes.append(time.monotonic() - begun)
            into.memory.append(own_memory(pid))
            time.sleep(0.5)
    return into


def synced_write() -> float:
    """Seconds that a page takes to the disk, beside the history: no answer can be sooner."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(4096))
        begun = time.monotonic()
        file.flush()
        os.fsync(file.fileno())
        return time.monotonic() - begun


def own_memory(pid: int) -> float:
    """Of the agent itself, without the children of running actions, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def report(folder: Path, given: argparse.Namespace, calm: Measured, stormy: Measured) -> None:
    history = apsw.Connection(str(folder / "state" / "history.db"))
    begun = dict(
        history.execute("SELECT coalesce(outcome, state), count(*) FROM run WHERE state <> 'pending' GROUP BY 1")
    )
    episodes = history.execute("SELECT count(*) FROM alert_episode").get
    waiting = history.execute("SELECT count(*) FROM run WHERE state = 'pending'").get
    third = len(stormy.memory) // 3
    print(f"{given.alerts} alerts in {given.seconds:g} s over {given.databases} databases, {SENDERS} senders")
    print(f"answers      {dict(stormy.codes)}, stored episodes {episodes}")
    print(f"answered in  p50 {ms(stormy.answers, 0.5)}, p99 {ms(stormy.answers, 0.99)}, max {ms(stormy.answers, 1)}")
    print(f"a bare sync  p50 {ms(stormy.synced, 0.5)}, p99 {ms(stormy.synced, 0.99)}"
          f"   (before: p50 {ms(calm.synced, 0.5)}, p99 {ms(calm.synced, 0.99)}); load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"scrapes      p50 {ms(stormy.scrapes, 0.5)}, p99 {ms(stormy.scrapes, 0.99)}"
          f"   (before: p50 {ms(calm.scrapes, 0.5)}, p99 {ms(calm.scrapes, 0.99)})")  # fmt: skip
    print(f"memory       {stormy.memory[0]:.0f} MiB at first, {stormy.memory[third]:.0f}, {stormy.memory[2 * third]:.0f},"
          f" {stormy.memory[-1]:.0f} at the end")  # fmt: skip
    idle = sum(begun.get(outcome, 0) for outcome in ("locked", "refused", "nothing_to_do", "cancelled"))
    print(f"acted upon   {sum(begun.values()) - idle} databases, once each (the radius allows "
          f"{max(10, given.databases // 10)}), {waiting} runs wait; begun: {begun}")  # fmt: skip
    early, late = stormy.answers[: given.alerts // 6], stormy.answers[given.alerts // 6 :]
    print(f"p99 of the first sixth, in which the actions run: {ms(early, 0.99)}; after it: {ms(late, 0.99)}")


def ms(values: list[float], share: float) -> str:
    return f"{1000 * percentile(values, share):.1f} ms"


if __name__ == "__main__":
    main()
