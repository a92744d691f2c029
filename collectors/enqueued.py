"""How many tasks were ever enqueued, without help from the workers: SQLite numbers the rows of AUTOINCREMENT tables.

The number never goes back in a file that lives on (https://sqlite.org/autoinc.html). When it does, commits were lost: a
restore, a copy put back, a crash with synchronous off.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from collectors.access.context import CollectorSpec, PollContext
from collectors.metric import Metric, Sample
from collectors.queue_profiles.run_queries import read_last_numbers

NAME = "enqueued"
SPEC = CollectorSpec(needs_connection=True, needs_profile=True, shared_read=read_last_numbers)

ENQUEUED = Metric(
    "sqlite_queue_enqueued_total",
    "Tasks ever enqueued in this file (sqlite_sequence). Absent where the queue's tables do not number their rows.",
    kind="counter",
    fold="sum",
)
REGRESSIONS = Metric(
    "sqlite_queue_sequence_regressions_total",
    "How often the last number given went backwards since the start: commits were lost (a restore, a crash), or it was reset.",
    kind="counter",
    fold="sum",
)
METRICS = (ENQUEUED, REGRESSIONS)


@dataclass(frozen=True, slots=True)
class EnqueuedReading:
    """The last number of each table, and how often a number went back; None where no table numbers its rows.

    `seen`: the highest number that was read of each table so far.
    """

    numbers: Mapping[str, int] | None = None
    regressions: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)


def read(context: PollContext, previous: EnqueuedReading | None) -> EnqueuedReading:
    """Read the last number of each table. Raises apsw.Error."""
    before = previous or EnqueuedReading()
    profile = context.find_profile()
    if profile is None or not profile.sequences:
        return EnqueuedReading(None, before.regressions, before.seen)
    numbers = read_last_numbers(context.shared_reads, profile)
    back = sum(number < before.seen.get(table, 0) for table, number in numbers.items())
    return EnqueuedReading(numbers, before.regressions + back, {**before.seen, **numbers})


def samples(reading: EnqueuedReading) -> Iterator[Sample]:
    """Yield both counters where rows are numbered."""
    if reading.numbers is not None:
        yield ENQUEUED(sum(reading.numbers.values()))
        yield REGRESSIONS(reading.regressions)
