"""The demo's quiet scene: finished tasks are deleted and their space is given back, and the workers keep their pace."""

import time
from collections.abc import Callable, Iterator

from exporter.demo.person import types
from exporter.demo.queue import completed
from exporter.demo.stage import Stage

Say = Callable[..., None]
BEFORE = 2.0


def tidy(stage: Stage, say: Say) -> Iterator[None]:
    """Purge and vacuum as a person would; the file shrinks with the next checkpoint, which comes when the report has ended."""
    at, done = time.monotonic(), completed(stage.database)
    while time.monotonic() < at + BEFORE:
        yield
    usual = _pace(stage, at, done)
    at, done = time.monotonic(), completed(stage.database)
    types(stage, say, "purge", "jobs", "--older-than", "7d", shown=1)
    types(stage, say, "vacuum", "jobs", "--incremental", "--free-for", "0s", shown=1)
    say(f"application: its workers completed {usual:.0f} tasks a second before, {_pace(stage, at, done):.0f} meanwhile")


def _pace(stage: Stage, since: float, before: int) -> float:
    return (completed(stage.database) - before) / (time.monotonic() - since)
