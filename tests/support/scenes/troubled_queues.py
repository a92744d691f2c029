"""Four queues, each with a trouble that queuekeeper can put right, made from outside as an application would.

starved: two readers take turns, so its log is copied back but never starts over. stale: workers that are gone hold tasks.
old: its newest verified backup is of the day before yesterday. free: most of its pages hold nothing.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.patience import LONGEST_WAIT
from tests.support.scenes import prismq
from tests.support.scenes.forked_process import run_forked

CONFIG = """\
identity: ADDRESS
databases:
  - {name: starved, path: FOLDER/starved.db, owner_sqlite: 3.51.3}
  - {name: stale, path: FOLDER/stale.db, settings: {grace: 2s}}
  - {name: old, path: FOLDER/old.db, backup: {directory: FOLDER/backups}}
  - {name: free, path: FOLDER/free.db, backup: {directory: FOLDER/backups}}
poll: {interval: 1s}
limits: {checkpoint_wait: 5s, disk_reserve: 1MiB}   # however late a busy machine lets the readers go on
actions:
  enabled: true
  allow: {token_files: [FOLDER/token]}
  windows: {vacuum: "00:00-24:00"}
rules:
  - name: wal-reset-starved
    when: {sqlite_wal_state: {above: 0, where: {state: reset_starved}}}
    on: STARVED
    do: checkpoint
    databases: [starved]
  - name: stale-leases
    when: {sqlite_queue_stale_leases: {above: 0}}
    on: STALE
    do: requeue
    options: {guarded: true, limit: 500}
    databases: [stale]
  - name: backup-due
    when: {sqlite_backup_age_seconds: {above: 26h}}
    on: OLD
    do: backup
    cooldown: 1s
    databases: [old]
  - name: free-pages
    when: {sqlite_fragmentation_ratio: {above: 30%, clear: 10%}}
    on: FREE
    do: vacuum
    options: {free_for: 0, stall: 1m}
    databases: [free]
state: FOLDER/state
"""
ACTIONS = {"starved": "checkpoint", "stale": "requeue", "old": "backup", "free": "vacuum"}
ALERTS = {
    "starved": "QueueWalResetStarved",
    "stale": "QueueStaleLeases",
    "old": "QueueBackupDue",
    "free": "QueueFreePages",
}
DAY = 86400.0


def config(address: str, *, by_alert: bool) -> str:
    """The agent's configuration: each rule started by its shipped alert alone, or by a threshold of no time alone."""
    text = CONFIG.replace("ADDRESS", address)
    for name, alertname in ALERTS.items():
        start = f"""{{alert: ['alertname="{alertname}"']}}""" if by_alert else "{threshold: {for: 0s}}"
        text = text.replace(f"on: {name.upper()}", f"on: {start}")
    return text


@dataclass
class Troubled:
    """The queues, by name, and what still makes trouble in one of them."""

    queues: dict[str, prismq.Queue]
    starving: tuple[subprocess.Popen[str], ...]

    def end_starving(self) -> None:
        """End the readers that keep the log of `starved` from starting over, and the application that writes it.

        Right after a checkpoint of its own, and before its next commit, its log looks as a starved one does.
        """
        for process in self.starving:
            process.kill()
            process.wait(LONGEST_WAIT)


@contextmanager
def troubled(folder: Path, text: str) -> Iterator[Troubled]:
    """All four at once, and `queuekeeper.yaml` with a private token beside them. The troubles are there before any agent."""
    (folder / "queuekeeper.yaml").write_text(text.replace("FOLDER", str(folder)))
    (folder / "token").write_text("the-token-of-the-loop\n")
    (folder / "token").chmod(0o600)
    with ExitStack() as stack:
        queues = {name: prismq.create(folder / f"{name}.db") for name in ACTIONS}
        for queue in queues.values():
            stack.callback(queue.owner.close)
        _leave_stale(queues["stale"])
        _back_up_long_ago(folder)
        _empty(queues["free"])
        _command(folder, "backup", "free")
        yield Troubled(queues, _starve(queues["starved"], stack))


def _leave_stale(queue: prismq.Queue) -> None:
    queue.leased(time.time() - 60, 3)
    queue.leased(time.time() + 3600, 1)


def _back_up_long_ago(folder: Path) -> None:
    _command(folder, "backup", "old")
    (place,) = (folder / "backups" / "old").glob("*.manifest.json")
    manifest = json.loads(place.read_text())
    for name in ("snapshot_time", "finished_time", "verified_time"):
        manifest[name] -= 2 * DAY
    place.write_text(json.dumps(manifest))


def _empty(queue: prismq.Queue) -> None:
    """4 MiB that were used once."""
    queue.owner.pragma("auto_vacuum", "incremental")
    queue.owner.execute("VACUUM")
    queue.put(number=50)
    queue.fill_wal(1000)
    queue.owner.execute("DELETE FROM ballast")
    queue.owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _starve(queue: prismq.Queue, stack: ExitStack) -> tuple[subprocess.Popen[str], ...]:
    """An application whose commits try to checkpoint all the time, and readers of 40 ms that never leave a gap."""
    queue.fill_wal(1200)
    readers = stack.enter_context(prismq.process("taking_turns.py", queue.path, "40"))
    return readers, stack.enter_context(prismq.process("application.py", queue.path, "20"))


def _command(folder: Path, *words: str) -> None:
    done = run_forked("exporter.commands", *words, f"--config.file={folder}/queuekeeper.yaml", timeout=LONGEST_WAIT)
    assert done.returncode == 0, done.stdout + done.stderr
