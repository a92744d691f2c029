"""The collectors, in the order they run. Adding one is an import and a word here."""

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
from collectors.access.context import PollContext
from collectors.metric import Metric, Sample


class Collector(Protocol):
    """A module with these names. `read` does the I/O, `samples` is pure.

    `NEEDS_DATABASE`: read only where a read-only connection may be open (docs/safety.md); else it works from stat.
    """

    @property
    def NAME(self) -> str: ...  # noqa: N802
    @property
    def METRICS(self) -> tuple[Metric, ...]: ...  # noqa: N802
    @property
    def NEEDS_DATABASE(self) -> bool: ...  # noqa: N802

    def read(self, look: PollContext, previous: Any) -> Any: ...
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

# What may read all of a file: not at the first look, so that the first page of a thousand databases does not wait for it.
AT_LEISURE = frozenset({page_layout.NAME})
# Their readings do not come out of the database's files: they are taken again when those are found unchanged.
BESIDE = frozenset({disk.NAME, backups.NAME, write_lock.NAME})


_PUBLISHERS = {metric.name: collector.NAME for collector in COLLECTORS for metric in collector.METRICS}


def publishing_collector(metric: str) -> str:
    """The name of the collector that publishes this metric; empty when none does."""
    return _PUBLISHERS.get(metric, "")
