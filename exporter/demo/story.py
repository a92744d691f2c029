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

from actions.store.database import state_store
from actions.store.runs import Run, newest_runs
from exporter.demo.application import LEASE_SECONDS
from exporter.demo.monitoring import query_alert_names
from exporter.demo.person import run_shown_command
from exporter.demo.stage import DemoStage, end_process
from exporter.demo.tidy import purge_and_vacuum
from exporter.text.run import run_line
from exporter.text.units import format_size

Say = Callable[..., None]
STEP_SECONDS = 0.5


@dataclass(slots=True)
class DemoProgress:
    """What the narrator has told already, so that each thing is told once."""

    wal_state: str = ""
    stale_leases: float = 0.0
    shown_runs: set[int] = field(default_factory=set)
    backup_shown: bool = False
    shown_refusals: set[tuple[str, str]] = field(default_factory=set)
    fixed_actions: set[str] = field(default_factory=set)
    fired_alerts: frozenset[str] = frozenset()
    resolved_alerts: frozenset[str] = frozenset()
    page_shown: bool = False
    largest_size: float = 0.0
    file_shrunk: bool = False


def tell_story(stage: DemoStage, say: Say, seconds: float | None) -> bool:
    """Play until Ctrl-C, or for `seconds`; whether both troubles were healed, the file is smaller, no alert is left."""
    told = DemoProgress()
    ends = None if seconds is None else time.monotonic() + seconds
    with _narrator_running(stage, told, say) as narrator:
        for act in _play_scenes(stage, say):
            if act is not None:
                say(act)
            _show_page_address(stage, told, say)
            if narrator.done() or (ends is not None and (time.monotonic() > ends or _is_all_healed(told))):
                break
            time.sleep(STEP_SECONDS)
    return _is_all_healed(told)


@contextmanager
def _narrator_running(stage: DemoStage, told: DemoProgress, say: Say) -> Iterator[Future[None]]:
    """What the agent says is told meanwhile, by a thread: a command that somebody types may take long."""
    over = Event()

    def narrate_until_over() -> None:
        while not over.wait(STEP_SECONDS):
            _tell_changes(stage, told, say)

    with ThreadPoolExecutor(1, "narrator") as pool:
        narrator = pool.submit(narrate_until_over)
        try:
            yield narrator
        finally:
            over.set()
        narrator.result()


def _show_page_address(stage: DemoStage, told: DemoProgress, say: Say) -> None:
    """At the end the visitor can go on by hand."""
    if _is_all_healed(told) and not told.page_shown:
        told.page_shown = True
        say(
            f"all of this is on the page; to try actions there, log in with the token in {stage.folder}/token: {stage.url}/"
        )


def _is_all_healed(told: DemoProgress) -> bool:
    return (
        {"checkpoint", "requeue"} <= told.fixed_actions
        and told.file_shrunk
        and told.fired_alerts == told.resolved_alerts
    )


def _play_scenes(stage: DemoStage, say: Say) -> Iterator[str | None]:
    """What the application does, in order; None while it just goes on."""
    for role in ("producer", "worker", "worker"):
        stage.start_role(role)
    yield "application: one producer and two workers run; its autocheckpoint is off, so the WAL only grows"
    yield from _pass_time(2)
    _show_other_files(stage, say)
    reader = stage.start_role("reader")
    _read_first_line(reader)
    yield f"application: a slow report (pid {reader.pid}) holds one read transaction open, which pins the WAL"
    yield from _pass_time(6)
    crasher = stage.start_role("crasher")
    task = _read_first_line(crasher)
    crasher.send_signal(signal.SIGKILL)
    yield f"application: a worker was killed with kill -9 while it held task {task}, leased for {LEASE_SECONDS} s"
    yield from _pass_time(3)
    run_shown_command(stage, say, "checkpoint", "jobs", "--mode", "passive")
    yield from _pass_time(2)
    _show_backup_commands(stage, say)
    yield from purge_and_vacuum(stage, say)
    end_process(reader)
    yield "application: the slow report has ended"
    while True:
        yield None


def _pass_time(seconds: float) -> Iterator[None]:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield None


def _read_first_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout is not None else ""


def _show_other_files(stage: DemoStage, say: Say) -> None:
    """What was found beside the queue: another system's, and a file that nobody can read."""
    for name, path, profile in _queues_by_glob(stage):
        say(f"/metrics: {name} was found by the glob others/*.sqlite ({path}), a queue of the profile {profile}")
    run_shown_command(stage, say, "status")


def _show_backup_commands(stage: DemoStage, say: Say) -> None:
    """A backup beside the workers, proved, restored into scratch, its age told."""
    for words in (("backup", "jobs"), ("backups", "verify", "jobs"), ("backups", "drill", "jobs")):
        run_shown_command(stage, say, *words, shown=1)


def _queues_by_glob(stage: DemoStage) -> Iterator[tuple[str, str, str]]:
    """(name, path, profile) of each queue but the main one."""
    try:
        page = stage.fetch_text("/metrics?name[]=sqlite_info")
    except OSError:
        return
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.labels["database"] != "jobs" and sample.labels["profile"]:
                yield sample.labels["database"], sample.labels["path"], sample.labels["profile"]


def _tell_changes(stage: DemoStage, told: DemoProgress, say: Say) -> None:
    try:
        readings = _read_samples(stage)
    except OSError:
        return
    _tell_wal(readings, told, say)
    stale = sum(value for (name, _), value in readings.items() if name == "sqlite_queue_stale_leases")
    if stale != told.stale_leases:
        told.stale_leases = stale
        say(f"/metrics: sqlite_queue_stale_leases is {stale:g}")
    _tell_backup(readings, told, say)
    _tell_size(readings, told, say)
    _tell_alerts(stage, told, say)
    _tell_runs(stage, told, say)


def _tell_backup(readings: dict[tuple[str, str], float], told: DemoProgress, say: Say) -> None:
    age = readings.get(("sqlite_backup_age_seconds", ""))
    if age is not None and not told.backup_shown:
        told.backup_shown = True
        say(f"/metrics: sqlite_backup_age_seconds is {age:.1f}: the newest verified backup's snapshot is that old")


def _tell_size(readings: dict[tuple[str, str], float], told: DemoProgress, say: Say) -> None:
    now = readings.get(("sqlite_database_size_bytes", ""), 0.0)
    told.largest_size = max(told.largest_size, now)
    if not told.file_shrunk and 0 < now < told.largest_size / 2:
        told.file_shrunk = True
        say(
            f"/metrics: sqlite_database_size_bytes is {now:.0f} ({format_size(now)}); it was {format_size(told.largest_size)}"
        )


def _tell_alerts(stage: DemoStage, told: DemoProgress, say: Say) -> None:
    """What Prometheus sees, where there is one; Alertmanager passes it on, and the run says which alert asked for it."""
    if stage.monitoring is None:
        return
    try:
        seen, now = query_alert_names(stage.monitoring)
    except OSError:
        return
    for name in sorted(seen - told.fired_alerts):
        say(f"Prometheus: the alert {name} fires; Alertmanager passes it on to queuekeeper's webhook")
    for name in sorted(seen - now - told.resolved_alerts):
        say(f"Prometheus: the alert {name} has resolved")
    told.fired_alerts, told.resolved_alerts = seen, seen - now


def _tell_wal(readings: dict[tuple[str, str], float], told: DemoProgress, say: Say) -> None:
    states = [label for (name, label), value in readings.items() if name == "sqlite_wal_state" and value == 1]
    backlog = readings.get(("sqlite_wal_backlog_bytes", ""), 0.0)
    if states and states[0] != told.wal_state and states[0] != "unknown":
        told.wal_state = states[0]
        say(
            f"/metrics: sqlite_wal_state is {states[0]}, sqlite_wal_backlog_bytes {backlog:.0f} ({format_size(backlog)})"
        )


def _tell_runs(stage: DemoStage, told: DemoProgress, say: Say) -> None:
    with state_store(stage.folder / "state") as store:
        runs = newest_runs(store, "jobs", 20)
    for run in reversed(runs):
        if run.state == "ended" and run.id not in told.shown_runs:
            told.shown_runs.add(run.id)
            _tell_run(run, told, say)


def _tell_run(run: Run, told: DemoProgress, say: Say) -> None:
    """A refusal for the same reason is told once: history has them all."""
    kind = (run.action, run.reason)
    if run.outcome == "refused" and kind in told.shown_refusals:
        return
    if run.outcome == "refused":
        told.shown_refusals.add(kind)
    say(f"queuekeeper: {run_line(run)}")
    if run.effect == "fixed":
        told.fixed_actions.add(run.action)


def _read_samples(stage: DemoStage) -> dict[tuple[str, str], float]:
    """The samples that the story tells of: (name, the state or queue) to value."""
    found = {}
    for family in text_string_to_metric_families(stage.fetch_text("/metrics")):
        for sample in family.samples:
            if sample.labels.get("database", "jobs") != "jobs":
                continue
            found[sample.name, sample.labels.get("state") or sample.labels.get("queue") or ""] = sample.value
    return found
