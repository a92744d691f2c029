"""How many workers are alive, by the queue's own list of workers, where it keeps one."""

from collections.abc import Iterator
from dataclasses import dataclass

from collectors.access.context import CollectorSpec, PollContext
from collectors.metric import Metric, Sample
from collectors.queue_profiles.run_queries import count_workers

NAME = "workers"
SPEC = CollectorSpec(needs_connection=True, needs_profile=True, shared_read=count_workers)

WORKERS = Metric(
    "sqlite_queue_workers",
    "Workers in the queue's own list: alive, or stale (no heartbeat within the profile's worker_timeout). Absent where the "
    "queue keeps no list.",
    ("state",),
    fold="sum",
)
METRICS = (WORKERS,)


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """Workers by state. `known` is false where the file has no list of workers."""

    known: bool = False
    alive: int = 0
    stale: int = 0

    def can_age(self) -> bool:
        """Whether a heartbeat may grow too old without any write (`collectors.access.refresh`)."""
        return self.alive > 0


def read(context: PollContext, previous: WorkerCounts | None) -> WorkerCounts:  # noqa: ARG001 - the collectors' signature
    """Count the workers in the list. Raises apsw.Error, TimeLimitExceeded."""
    profile = context.find_profile()
    if profile is None or not profile.worker_tables:
        return WorkerCounts()
    alive, stale = count_workers(context.shared_reads, profile, context.now)
    return WorkerCounts(True, alive, stale)


def samples(reading: WorkerCounts) -> Iterator[Sample]:
    """Yield both states, zeros too."""
    if reading.known:
        yield WORKERS(reading.alive, "alive")
        yield WORKERS(reading.stale, "stale")
