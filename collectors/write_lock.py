"""For which share of the time the write lock is held: what explains "database is locked".

Sampled by the raw reader from the kernel's lock table (collectors/raw_reader/lock_sampler.py): nothing is opened.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from collectors.access.context import CollectorSpec, PollContext
from collectors.metric import Metric, Sample
from collectors.raw_reader.lock_usage import LockUsage

NAME = "write_lock"
SPEC = CollectorSpec(outside_file=True)

BUSY = Metric(
    "sqlite_write_lock_busy_ratio",
    "Share of samples, 0 to 1, in which a process held the write lock since the last poll: about 10 a second from the "
    "kernel's lock table. Absent when the table, or the application's processes in it, cannot be seen.",
)
METRICS = (BUSY,)


@dataclass(frozen=True, slots=True)
class WriteLockReading:
    """`ratio` is None where it is unknown. Readings with the same ratio are equal, whichever process held the lock."""

    ratio: float | None
    use: LockUsage = field(default=LockUsage(), compare=False)


def read(context: PollContext, previous: WriteLockReading | None) -> WriteLockReading:  # noqa: ARG001 - the collectors' signature
    """Fetch what was sampled since the last poll. Raises RawReaderUnavailable."""
    use = context.raw.read_lock_usage(context.target.path)
    return WriteLockReading(use.busy_ratio, use)


def samples(reading: WriteLockReading) -> Iterator[Sample]:
    """Yield the ratio where it is known."""
    if reading.ratio is not None:
        yield BUSY(reading.ratio)
