"""The demo's quiet scene: finished tasks are purged, their space is given back, and the workers keep their speed."""

import time
from collections.abc import Callable, Iterator

from exporter.demo.person import run_shown_command
from exporter.demo.queue import count_completed
from exporter.demo.stage import DemoStage

Say = Callable[..., None]
MEASURED_SECONDS = 2.0


def purge_and_vacuum(stage: DemoStage, say: Say) -> Iterator[None]:
    """Purge and vacuum as a person would, and show the workers' speed before and during it.

    The file shrinks with the next checkpoint, which succeeds once the slow report has ended.
    """
    begun, completed = time.monotonic(), count_completed(stage.database_path)
    while time.monotonic() < begun + MEASURED_SECONDS:
        yield
    usual = _tasks_per_second(stage, begun, completed)
    begun, completed = time.monotonic(), count_completed(stage.database_path)
    run_shown_command(stage, say, "purge", "jobs", "--older-than", "7d", shown=1)
    run_shown_command(stage, say, "vacuum", "jobs", "--incremental", "--free-for", "0s", shown=1)
    during = _tasks_per_second(stage, begun, completed)
    say(f"application: its workers completed {usual:.0f} tasks a second before, {during:.0f} during this")


def _tasks_per_second(stage: DemoStage, since: float, before: int) -> float:
    return (count_completed(stage.database_path) - before) / (time.monotonic() - since)
