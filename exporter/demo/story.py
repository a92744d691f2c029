"""The demo's story: what goes wrong, told as it happens, and what queuekeeper did about it, from its own history."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from prometheus_client.parser import text_string_to_metric_families

from actions.store.database import history
from actions.store.runs import Run, newest
from exporter.demo.application import LEASE_SECONDS
from exporter.demo.monitoring import fired
from exporter.demo.person import types
from exporter.demo.stage import Stage, leave
from exporter.demo.tidy import tidy
from exporter.text.run import line
from exporter.text.units import size

Say = Callable[..., None]
NAP = 0.5


@dataclass(slots=True)
class Told:
    """What the narrator has told already, so that each thing is told once."""

    wal_state: str = ""
    stale: float = 0.0
    runs: set[int] = field(default_factory=set)
    backup: bool = False
    refusals: set[tuple[str, str]] = field(default_factory=set)
    fixed: set[str] = field(default_factory=set)
    fired: frozenset[str] = frozenset()
    resolved: frozenset[str] = frozenset()
    page: bool = False
    largest: float = 0.0
    smaller: bool = False


def tell(stage: Stage, say: Say, seconds: float | None) -> bool:
    """Play until Ctrl-C, or for `seconds`; whether both troubles were healed, the file is smaller, no alert is left."""
    told = Told()
    ends = None if seconds is None else time.monotonic() + seconds
    with _narrated(stage, told, say) as narrator:
        for act in _acts(stage, say):
            if act is not None:
                say(act)
            _hand_over(stage, told, say)
            if narrator.done() or (ends is not None and (time.monotonic() > ends or _all_healed(told))):
                break
            time.sleep(NAP)
    return _all_healed(told)


@contextmanager
def _narrated(stage: Stage, told: Told, say: Say) -> Iterator[Future[None]]:
    """What the agent says is told meanwhile, by a thread: a command that somebody types may take long."""
    over = Event()

    def narrate() -> None:
        while not over.wait(NAP):
            _narrate(stage, told, say)

    with ThreadPoolExecutor(1, "narrator") as pool:
        narrator = pool.submit(narrate)
        try:
            yield narrator
        finally:
            over.set()
        narrator.result()


def _hand_over(stage: Stage, told: Told, say: Say) -> None:
    """At the end the visitor can go on by hand."""
    if _all_healed(told) and not told.page:
        told.page = True
        say(
            f"all of this is on the page; to try actions there, log in with the token in {stage.folder}/token: {stage.url}/"
        )


def _all_healed(told: Told) -> bool:
    return {"checkpoint", "requeue"} <= told.fixed and told.smaller and told.fired == told.resolved


def _acts(stage: Stage, say: Say) -> Iterator[str | None]:
    """What the application does, in order; None while it just goes on."""
    for role in ("producer", "worker", "worker"):
        stage.play(role)
    yield "application: one producer and two workers run; its autocheckpoint is off, so the WAL only grows"
    yield from _wait(2)
    _others(stage, say)
    reader = stage.play("reader")
    _first_line(reader)
    yield f"application: a slow report (pid {reader.pid}) holds one read transaction open, which pins the WAL"
    yield from _wait(6)
    crasher = stage.play("crasher")
    task = _first_line(crasher)
    crasher.send_signal(signal.SIGKILL)
    yield f"application: a worker was killed with kill -9 while it held task {task}, leased for {LEASE_SECONDS} s"
    yield from _wait(3)
    types(stage, say, "checkpoint", "jobs", "--mode", "passive")
    yield from _wait(2)
    _keep(stage, say)
    yield from tidy(stage, say)
    leave(reader)
    yield "application: the slow report has ended"
    while True:
        yield None


def _wait(seconds: float) -> Iterator[None]:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield None


def _first_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout is not None else ""


def _others(stage: Stage, say: Say) -> None:
    """What was found beside the queue: another system's, and a file that nobody can read."""
    for name, path, profile in _found_by_glob(stage):
        say(f"/metrics: {name} was found by the glob others/*.sqlite ({path}), a queue of the profile {profile}")
    types(stage, say, "status")


def _keep(stage: Stage, say: Say) -> None:
    """A backup beside the workers, proved, restored into scratch, its age told."""
    for words in (("backup", "jobs"), ("backups", "verify", "jobs"), ("backups", "drill", "jobs")):
        types(stage, say, *words, shown=1)


def _found_by_glob(stage: Stage) -> Iterator[tuple[str, str, str]]:
    """(name, path, profile) of each queue but the main one."""
    try:
        page = stage.get("/metrics?name[]=sqlite_info")
    except OSError:
        return
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.labels["database"] != "jobs" and sample.labels["profile"]:
                yield sample.labels["database"], sample.labels["path"], sample.labels["profile"]


def _narrate(stage: Stage, told: Told, say: Say) -> None:
    try:
        readings = _readings(stage)
    except OSError:
        return
    _tell_wal(readings, told, say)
    stale = sum(value for (name, _), value in readings.items() if name == "sqlite_queue_stale_leases")
    if stale != told.stale:
        told.stale = stale
        say(f"/metrics: sqlite_queue_stale_leases is {stale:g}")
    _tell_backup(readings, told, say)
    _tell_size(readings, told, say)
    _tell_alerts(stage, told, say)
    _tell_runs(stage, told, say)


def _tell_backup(readings: dict[tuple[str, str], float], told: Told, say: Say) -> None:
    age = readings.get(("sqlite_backup_age_seconds", ""))
    if age is not None and not told.backup:
        told.backup = True
        say(f"/metrics: sqlite_backup_age_seconds is {age:.1f}: the newest verified backup's snapshot is that old")


def _tell_size(readings: dict[tuple[str, str], float], told: Told, say: Say) -> None:
    now = readings.get(("sqlite_database_size_bytes", ""), 0.0)
    told.largest = max(told.largest, now)
    if not told.smaller and 0 < now < told.largest / 2:
        told.smaller = True
        say(f"/metrics: sqlite_database_size_bytes is {now:.0f} ({size(now)}); it was {size(told.largest)}")


def _tell_alerts(stage: Stage, told: Told, say: Say) -> None:
    """What Prometheus sees, where there is one; Alertmanager passes it on, and the run says which alert asked for it."""
    if stage.monitoring is None:
        return
    try:
        seen, now = fired(stage.monitoring)
    except OSError:
        return
    for name in sorted(seen - told.fired):
        say(f"Prometheus: the alert {name} fires; Alertmanager passes it on to queuekeeper's webhook")
    for name in sorted(seen - now - told.resolved):
        say(f"Prometheus: the alert {name} has resolved")
    told.fired, told.resolved = seen, seen - now


def _tell_wal(readings: dict[tuple[str, str], float], told: Told, say: Say) -> None:
    states = [label for (name, label), value in readings.items() if name == "sqlite_wal_state" and value == 1]
    backlog = readings.get(("sqlite_wal_backlog_bytes", ""), 0.0)
    if states and states[0] != told.wal_state and states[0] != "unknown":
        told.wal_state = states[0]
        say(f"/metrics: sqlite_wal_state is {states[0]}, sqlite_wal_backlog_bytes {backlog:.0f} ({size(backlog)})")


def _tell_runs(stage: Stage, told: Told, say: Say) -> None:
    with history(stage.folder / "state") as store:
        runs = newest(store, "jobs", 20)
    for run in reversed(runs):
        if run.state == "ended" and run.id not in told.runs:
            told.runs.add(run.id)
            _tell_run(run, told, say)


def _tell_run(run: Run, told: Told, say: Say) -> None:
    """A refusal for the same reason is told once: history has them all."""
    kind = (run.action, run.reason)
    if run.outcome == "refused" and kind in told.refusals:
        return
    if run.outcome == "refused":
        told.refusals.add(kind)
    say(f"queuekeeper: {line(run)}")
    if run.effect == "fixed":
        told.fixed.add(run.action)


def _readings(stage: Stage) -> dict[tuple[str, str], float]:
    """The samples that the story tells of: (name, the state or queue) to value."""
    found = {}
    for family in text_string_to_metric_families(stage.get("/metrics")):
        for sample in family.samples:
            if sample.labels.get("database", "jobs") != "jobs":
                continue
            found[sample.name, sample.labels.get("state") or sample.labels.get("queue") or ""] = sample.value
    return found
