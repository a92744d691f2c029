"""The demo's story: the problems of the application as they happen, and from the history what queuekeeper did about them."""

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
from exporter.demo.damaged_copy import damage_and_scrub
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
    """What the narrator has shown already, so that it shows each change once."""

    wal_state: str = ""
    stale_leases: float = 0.0
    shown_runs: set[int] = field(default_factory=set)
    backup_shown: bool = False
    shown_refusals: set[tuple[str, str]] = field(default_factory=set)
    fixed_actions: set[str] = field(default_factory=set)
    fired_alerts: frozenset[str] = frozenset()
    resolved_alerts: frozenset[str] = frozenset()
    page_shown: bool = False
    blocked_shown: bool = False
    largest_size: float = 0.0
    file_shrunk: bool = False


def tell_story(stage: DemoStage, say: Say, seconds: float | None) -> bool:
    """Play until Ctrl-C, or for `seconds`; return whether both problems were healed, the file shrank and no alert fires."""
    progress = DemoProgress()
    ends = None if seconds is None else time.monotonic() + seconds
    with _narrator_running(stage, progress, say) as narrator:
        for line in _play_scenes(stage, progress, say):
            if line is not None:
                say(line)
            _show_page_address(stage, progress, say)
            if narrator.done() or (ends is not None and (time.monotonic() > ends or _is_all_healed(progress))):
                break
            time.sleep(STEP_SECONDS)
    return _is_all_healed(progress)


@contextmanager
def _narrator_running(stage: DemoStage, progress: DemoProgress, say: Say) -> Iterator[Future[None]]:
    """Show the agent's changes from a thread, because a command of a scene may take long."""
    over = Event()

    def narrate_until_over() -> None:
        while not over.wait(STEP_SECONDS):
            _tell_changes(stage, progress, say)

    with ThreadPoolExecutor(1, "narrator") as pool:
        try:  # a Ctrl-C while the thread starts must end it too
            narrator = pool.submit(narrate_until_over)
            yield narrator
        finally:
            over.set()
        narrator.result()


def _show_page_address(stage: DemoStage, progress: DemoProgress, say: Say) -> None:
    """Say once, when all is healed, where a person can go on by hand."""
    if _is_all_healed(progress) and not progress.page_shown:
        progress.page_shown = True
        say(
            f"all of this is on the page; to try actions there, log in with the token in {stage.folder}/token: {stage.url}/"
        )


def _is_all_healed(progress: DemoProgress) -> bool:
    return (
        {"checkpoint", "requeue"} <= progress.fixed_actions
        and progress.file_shrunk
        and progress.fired_alerts == progress.resolved_alerts
    )


def _play_scenes(stage: DemoStage, progress: DemoProgress, say: Say) -> Iterator[str | None]:
    """Yield what the application does, in order, and None while nothing new happens.

    The reader ends once it has blocked a checkpoint and the stale lease was given back, however slow the machine is.
    """
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
    yield from damage_and_scrub(stage, say)
    yield from purge_and_vacuum(stage, say)
    while not (progress.blocked_shown and "requeue" in progress.fixed_actions):
        yield None
    end_process(reader)
    yield "application: the slow report has ended"
    while True:
        yield None


def _pass_time(seconds: float) -> Iterator[None]:
    """Yield None until so many seconds have passed."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield None


def _read_first_line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout is not None else ""


def _show_other_files(stage: DemoStage, say: Say) -> None:
    """Show what the glob matched: a queue of another system, and a file that cannot be read."""
    for name, path, profile in _queues_by_glob(stage):
        say(f"/metrics: {name} was found by the glob others/*.sqlite ({path}), a queue of the profile {profile}")
    run_shown_command(stage, say, "status")


def _show_backup_commands(stage: DemoStage, say: Say) -> None:
    """Make a backup while the workers go on, verify it, and restore it into a scratch file."""
    for words in (("backup", "jobs"), ("backups", "verify", "jobs"), ("backups", "drill", "jobs")):
        run_shown_command(stage, say, *words, shown=1)


def _queues_by_glob(stage: DemoStage) -> Iterator[tuple[str, str, str]]:
    """Yield (name, path, profile) of each queue except the main one."""
    try:
        page = stage.fetch_text("/metrics?name[]=sqlite_info")
    except OSError:
        return
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.labels["database"] != "jobs" and sample.labels["profile"]:
                yield sample.labels["database"], sample.labels["path"], sample.labels["profile"]


def _tell_changes(stage: DemoStage, progress: DemoProgress, say: Say) -> None:
    """Show what has changed since the last call; nothing while the agent does not answer."""
    try:
        readings = _read_samples(stage)
    except OSError:
        return
    _tell_wal(readings, progress, say)
    stale = sum(value for (name, _), value in readings.items() if name == "sqlite_queue_stale_leases")
    if stale != progress.stale_leases:
        progress.stale_leases = stale
        say(f"/metrics: sqlite_queue_stale_leases is {stale:g}")
    _tell_backup(readings, progress, say)
    _tell_size(readings, progress, say)
    _tell_alerts(stage, progress, say)
    _tell_runs(stage, progress, say)


def _tell_backup(readings: dict[tuple[str, str], float], progress: DemoProgress, say: Say) -> None:
    age = readings.get(("sqlite_backup_age_seconds", ""))
    if age is not None and not progress.backup_shown:
        progress.backup_shown = True
        say(f"/metrics: sqlite_backup_age_seconds is {age:.1f}: the newest verified backup's snapshot is that old")


def _tell_size(readings: dict[tuple[str, str], float], progress: DemoProgress, say: Say) -> None:
    now = readings.get(("sqlite_database_size_bytes", ""), 0.0)
    progress.largest_size = max(progress.largest_size, now)
    if not progress.file_shrunk and 0 < now < progress.largest_size / 2:
        progress.file_shrunk = True
        largest = format_size(progress.largest_size)
        say(f"/metrics: sqlite_database_size_bytes is {now:.0f} ({format_size(now)}); it was {largest}")


def _tell_alerts(stage: DemoStage, progress: DemoProgress, say: Say) -> None:
    """Show the alerts of Prometheus, where it runs; Alertmanager passes them on, and each run names its alert."""
    if stage.monitoring is None:
        return
    try:
        fired, firing = query_alert_names(stage.monitoring)
    except OSError:
        return
    for name in sorted(fired - progress.fired_alerts):
        say(f"Prometheus: the alert {name} fires; Alertmanager passes it on to queuekeeper's webhook")
    for name in sorted(fired - firing - progress.resolved_alerts):
        say(f"Prometheus: the alert {name} has resolved")
    progress.fired_alerts, progress.resolved_alerts = fired, fired - firing


def _tell_wal(readings: dict[tuple[str, str], float], progress: DemoProgress, say: Say) -> None:
    states = [label for (name, label), value in readings.items() if name == "sqlite_wal_state" and value == 1]
    backlog = readings.get(("sqlite_wal_backlog_bytes", ""), 0.0)
    if states and states[0] != progress.wal_state and states[0] != "unknown":
        progress.wal_state = states[0]
        say(
            f"/metrics: sqlite_wal_state is {states[0]}, sqlite_wal_backlog_bytes {backlog:.0f} ({format_size(backlog)})"
        )


def _tell_runs(stage: DemoStage, progress: DemoProgress, say: Say) -> None:
    with state_store(stage.folder / "state") as store:
        runs = newest_runs(store, "jobs", 20)
    for run in reversed(runs):
        if run.state == "ended" and run.id not in progress.shown_runs:
            progress.shown_runs.add(run.id)
            _tell_run(run, progress, say)


def _tell_run(run: Run, progress: DemoProgress, say: Say) -> None:
    """Show one run. A refusal of the same action for the same reason is shown once; the history has all of them."""
    kind = (run.action, run.reason)
    if run.outcome == "refused" and kind in progress.shown_refusals:
        return
    if run.outcome == "refused":
        progress.shown_refusals.add(kind)
    say(f"queuekeeper: {run_line(run)}")
    if run.outcome == "blocked":
        progress.blocked_shown = True
    if run.effect == "fixed":
        progress.fixed_actions.add(run.action)


def _read_samples(stage: DemoStage) -> dict[tuple[str, str], float]:
    """The samples of the main queue: (name, its state or queue label) to value. Raises OSError while there is no answer."""
    samples = {}
    for family in text_string_to_metric_families(stage.fetch_text("/metrics")):
        for sample in family.samples:
            if sample.labels.get("database", "jobs") != "jobs":
                continue
            samples[sample.name, sample.labels.get("state") or sample.labels.get("queue") or ""] = sample.value
    return samples
