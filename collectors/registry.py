"""The collectors, in the order of their metrics. To add one, import its module and name it here."""

from collections.abc import Iterator
from typing import Any, Protocol

from collectors import (
    backups,
    disk,
    enqueued,
    fragmentation,
    leases,
    owner,
    page_layout,
    storage,
    tasks,
    wal,
    workers,
    write_lock,
)
from collectors.access.context import CollectorSpec, PollContext
from collectors.metric import Metric, Sample


class Collector(Protocol):
    """A module with these names. `SPEC` says how it is run, `read` does the I/O, `samples` is pure."""

    @property
    def NAME(self) -> str: ...  # noqa: N802
    @property
    def METRICS(self) -> tuple[Metric, ...]: ...  # noqa: N802
    @property
    def SPEC(self) -> CollectorSpec: ...  # noqa: N802

    def read(self, context: PollContext, previous: Any) -> Any: ...
    def samples(self, reading: Any) -> Iterator[Sample]: ...


COLLECTORS: tuple[Collector, ...] = (
    storage,
    fragmentation,
    wal,
    write_lock,
    owner,
    disk,
    backups,
    tasks,
    leases,
    workers,
    enqueued,
    page_layout,
)

_DECLARED = {metric.name: (collector.NAME, metric) for collector in COLLECTORS for metric in collector.METRICS}


def publishing_collector(metric: str) -> str:
    """The name of the collector that publishes this metric; empty when none does."""
    return _DECLARED[metric][0] if metric in _DECLARED else ""


def needs_two_readings(metric: str) -> bool:
    """Whether one reading cannot tell this metric's value: its declaration says so."""
    return metric in _DECLARED and _DECLARED[metric][1].needs_two_readings


def is_moved_by_actions(metric: str) -> bool:
    """Whether our own actions move this metric while they run: its declaration says so."""
    return metric in _DECLARED and _DECLARED[metric][1].moved_by_actions
