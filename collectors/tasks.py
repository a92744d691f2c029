"""How many tasks are in each state, and how long the oldest waiting one waits."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from collectors.metric import Metric, Sample, Since
from collectors.queue_profiles.rows import QueueCount, counted, merged, queue_names
from collectors.queue_profiles.schema import State
from collectors.reading.label_cap import Cap, cap
from collectors.reading.look import Look

NAME = "tasks"
NEEDS_DATABASE = True

TASKS = Metric(
    "sqlite_queue_tasks",
    "Tasks in this state (rows, counted by the queue profile). A lower bound where sqlite_queue_tasks_capped is 1.",
    ("queue", "state"),
    fold="sum",
)
CAPPED = Metric(
    "sqlite_queue_tasks_capped",
    "1 when counting stopped at its row bound, so that the count of this state is a lower bound.",
    ("queue", "state"),
)
OLDEST = Metric(
    "sqlite_queue_oldest_waiting_age_seconds",
    "Seconds since the oldest waiting task could have started; 0 when none waits. A lower bound where waiting is "
    "capped.",
    ("queue",),
)
METRICS = (TASKS, CAPPED, OLDEST)


@dataclass(frozen=True, slots=True)
class Tasks:
    """Counts by (queue label, state). `names` remembers which queues have a label of their own."""

    states: tuple[State, ...] = ()
    counts: Mapping[tuple[str, State], QueueCount] = field(default_factory=dict)
    capped: frozenset[State] = frozenset()
    names: Cap = field(default_factory=Cap)
    has_times: bool = False

    def ages(self) -> bool:
        """A lease may end and a task may fall due without any write (`collectors.reading.due`)."""
        return any(count.rows > 0 for (_, state), count in self.counts.items() if state in ("running", "scheduled"))


def read(look: Look, previous: Tasks | None) -> Tasks:
    """Count every row set of the profile. Raises apsw.Error, TimeLimitExceeded, ValueError."""
    if look.profile is None:
        return Tasks()
    database, profile = look.open_database(), look.profile
    results = [(state, counted(database, profile, bound)) for state, bound in profile.counts(look.now)]
    found = {count.queue for _, result in results for count in result.queues} | queue_names(database, profile)
    names = cap(found, previous.names.kept if previous else ())
    groups: dict[tuple[str, State], list[QueueCount]] = defaultdict(list)
    for state, result in results:
        for count in result.queues:
            groups[names.label(count.queue), state].append(count)
    return Tasks(
        states=profile.states,
        counts={key: total for key, counts in groups.items() if (total := merged(counts)) is not None},
        capped=frozenset(state for state, result in results if result.capped),
        names=names,
        has_times=any(rows.state == "waiting" and rows.since is not None for rows in profile.rows),
    )


def samples(reading: Tasks) -> Iterator[Sample]:
    """Every state of every known queue, zeros too: an empty queue is a reading, not an absence."""
    for queue in reading.names.labels() if reading.states else ():
        for state in reading.states:
            count = reading.counts.get((queue, state))
            yield TASKS(count.rows if count else 0, queue, state)
            yield CAPPED(float(state in reading.capped), queue, state)
        if reading.has_times:
            yield from _oldest(queue, reading.counts.get((queue, "waiting")))


def _oldest(queue: str, waiting: QueueCount | None) -> Iterator[Sample]:
    if waiting is None:
        yield OLDEST(0, queue)
    elif waiting.oldest is not None:
        yield OLDEST(Since(waiting.oldest), queue)
