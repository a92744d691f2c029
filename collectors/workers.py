"""Whether anybody works: the queue's own list of workers, where it keeps one."""

from collections.abc import Iterator
from dataclasses import dataclass

from collectors.access.context import Look
from collectors.metric import Metric, Sample
from collectors.queue_profiles.run_queries import workers

NAME = "workers"
NEEDS_DATABASE = True

WORKERS = Metric(
    "sqlite_queue_workers",
    "Workers in the queue's own list: alive, or stale (no heartbeat within the profile's worker_timeout). Absent where the "
    "queue keeps no list.",
    ("state",),
    fold="sum",
)
METRICS = (WORKERS,)


@dataclass(frozen=True, slots=True)
class Workers:
    """`known` is false where the file has no list of workers."""

    known: bool = False
    alive: int = 0
    stale: int = 0

    def ages(self) -> bool:
        """A heartbeat grows old without any write (`collectors.access.refresh`)."""
        return self.alive > 0


def read(look: Look, previous: Workers | None) -> Workers:  # noqa: ARG001 - the collectors' signature
    """Count the list. Raises apsw.Error, TimeLimitExceeded."""
    if look.profile is None or not look.profile.worker_tables:
        return Workers()
    alive, stale = workers(look.open_database(), look.profile, look.now)
    return Workers(True, alive, stale)


def samples(reading: Workers) -> Iterator[Sample]:
    """Both states, zeros too."""
    if reading.known:
        yield WORKERS(reading.alive, "alive")
        yield WORKERS(reading.stale, "stale")
