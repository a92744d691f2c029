"""Running tasks with a stale lease, counted by the same predicate that requeue uses."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from collectors.access.context import CollectorSpec, PollContext
from collectors.access.label_limit import LabelLimit, limit_labels
from collectors.metric import Metric, Sample, Since
from collectors.queue_profiles.run_queries import QueueCount, merge_counts, read_stale_counts

NAME = "leases"
SPEC = CollectorSpec(needs_connection=True, needs_profile=True, shared_read=read_stale_counts)

STALE = Metric(
    "sqlite_queue_stale_leases",
    "Running tasks whose lease ended longer ago than the profile's grace (rows, the predicate of requeue). "
    "Counted up to 100000 rows.",
    ("queue",),
    fold="sum",
)
OLDEST = Metric(
    "sqlite_queue_oldest_stale_lease_age_seconds",
    "Seconds since the oldest stale lease ended; 0 when there is none.",
    ("queue",),
)
METRICS = (STALE, OLDEST)


@dataclass(frozen=True, slots=True)
class LeasesReading:
    """Stale leases by queue label. `known` is false where the profile has no leases to judge."""

    known: bool = False
    counts: Mapping[str, QueueCount] = field(default_factory=dict)
    names: LabelLimit = field(default_factory=LabelLimit)

    def can_age(self) -> bool:
        """Whether more leases may become stale without any write (`collectors.access.refresh`)."""
        return any(count.rows > 0 for count in self.counts.values())


def read(context: PollContext, previous: LeasesReading | None) -> LeasesReading:
    """Count stale leases. Raises apsw.Error, TimeLimitExceeded, ValueError."""
    profile = context.find_profile()
    if profile is None or not profile.stale_rows:
        return LeasesReading()
    counts = read_stale_counts(context.shared_reads, profile, context.now)
    # Queues with stale leases get a label before those without.
    urgent = limit_labels((count.queue for count in counts), previous.names.named if previous else ())
    names = limit_labels({count.queue for count in counts} | context.read_queue_names(profile), urgent.named)
    groups: dict[str, list[QueueCount]] = defaultdict(list)
    for count in counts:
        groups[names.label_for(count.queue)].append(count)
    totals = {queue: total for queue, parts in groups.items() if (total := merge_counts(parts)) is not None}
    return LeasesReading(known=True, counts=totals, names=names)


def samples(reading: LeasesReading) -> Iterator[Sample]:
    """Yield both metrics of every known queue, zeros too."""
    for queue in reading.names.all_labels() if reading.known else ():
        count = reading.counts.get(queue)
        yield STALE(count.rows if count else 0, queue)
        if count is None:
            yield OLDEST(0, queue)
        elif count.oldest is not None:
            yield OLDEST(Since(count.oldest), queue)
