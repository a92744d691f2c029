"""How many tasks are in each state, how long the oldest waiting task waits, and whether the head of the queue changes."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import apsw

from collectors.access.context import CollectorSpec, PollContext
from collectors.access.errors import PartialReading
from collectors.access.label_limit import LabelLimit, limit_labels
from collectors.metric import Metric, Sample, Since
from collectors.queue_profiles.count_queries import CompiledRowSet
from collectors.queue_profiles.run_queries import (
    CountResult,
    QueueCount,
    QueueHead,
    merge_counts,
    read_count,
    read_quick_counts,
)
from collectors.queue_profiles.schema import TaskState

NAME = "tasks"
SPEC = CollectorSpec(needs_connection=True, needs_profile=True, shared_read=read_quick_counts)

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
HEAD = Metric(
    "sqlite_queue_head_unchanged_seconds",
    "Seconds for which the same task was seen first in line; 0 when none waits. Works where tasks have no time.",
    ("queue",),
)
METRICS = (TASKS, CAPPED, OLDEST, HEAD)


@dataclass(frozen=True, slots=True)
class SlowCount:
    """A row set that is counted on the slow timer: its result at `tried_at`, None when counting took too long."""

    tried_at: float
    result: CountResult | None


@dataclass(frozen=True, slots=True)
class TasksReading:
    """Counts by (queue label, state). `names` remembers which queues have a label of their own.

    `slow` is by position in the profile `profile`; `heads`: each queue's head, and since when it is the same.
    """

    profile: str = ""
    states: tuple[TaskState, ...] = ()
    counts: Mapping[tuple[str, TaskState], QueueCount] = field(default_factory=dict)
    capped: frozenset[TaskState] = frozenset()
    names: LabelLimit = field(default_factory=LabelLimit)
    has_times: bool = False
    slow: Mapping[int, SlowCount] = field(default_factory=dict)
    heads: Mapping[str, tuple[QueueHead, float]] | None = None

    def can_age(self) -> bool:
        """Whether a lease may end or a task may fall due without any write (`collectors.access.refresh`)."""
        return any(count.rows > 0 for (_, state), count in self.counts.items() if state in ("running", "scheduled"))


def read(context: PollContext, previous: TasksReading | None) -> TasksReading:
    """Count every row set of the profile, the slow ones when they are due.

    Raises PartialReading when only slow ones could not be counted; apsw.Error, TimeLimitExceeded, ValueError.
    """
    profile = context.find_profile()
    if profile is None:
        return TasksReading()
    before = previous if previous is not None and previous.profile == profile.name else TasksReading()
    quick = context.read_quick_counts(profile)
    slow = _slow_counts(context, profile.rows, before.slow)
    counts = dict(quick.counts) | {i: count.result for i, count in slow.items() if count.result is not None}
    results = [(profile.rows[i].state, result) for i, result in counts.items()]
    queues = {count.queue for _, result in results for count in result.queues} | quick.names
    names = limit_labels(queues, before.names.named)
    late = frozenset(profile.rows[i].state for i, count in slow.items() if count.result is None)
    reading = TasksReading(
        profile=profile.name,
        states=tuple(state for state in profile.task_states if state not in late),
        counts=_group_by_label(results, names),
        capped=frozenset(state for state, result in results if result.capped),
        names=names,
        has_times=any(rows.state == "waiting" and rows.since is not None for rows in profile.rows),
        slow=slow,
        heads=None if quick.heads is None else _track_heads(quick.heads, names, before.heads or {}, context.now),
    )
    if late:
        raise PartialReading(f"{', '.join(sorted(late))}: counting took too long", reading, "timeout")
    return reading


def samples(reading: TasksReading) -> Iterator[Sample]:
    """Yield every state of every known queue, zeros too: an empty queue is a reading, not an absence."""
    for queue in reading.names.all_labels() if reading.states else ():
        for state in reading.states:
            count = reading.counts.get((queue, state))
            yield TASKS(count.rows if count else 0, queue, state)
            yield CAPPED(float(state in reading.capped), queue, state)
        if reading.has_times:
            yield from _oldest_samples(queue, reading.counts.get((queue, "waiting")))
        if reading.heads is not None and queue in (*reading.names.named, ""):
            head = reading.heads.get(queue)
            yield HEAD(0 if head is None else Since(head[1]), queue)


def _slow_counts(
    context: PollContext, rows: tuple[CompiledRowSet, ...], before: Mapping[int, SlowCount]
) -> Mapping[int, SlowCount]:
    """Counts of the slow row sets: the previous one until it is due. The first that runs out of time ends the attempt."""
    counts: dict[int, SlowCount] = {}
    out_of_time = False
    for i, row_set in enumerate(rows):
        if not row_set.slow:
            continue
        last = before.get(i)
        if last is not None and 0 <= context.now - last.tried_at < context.target.slow_interval:
            counts[i] = last
        elif out_of_time:
            counts[i] = last or SlowCount(float("-inf"), None)
        else:
            result = _count_in_time(context, row_set)
            out_of_time = result is None
            counts[i] = SlowCount(context.now, result)
    return counts


def _count_in_time(context: PollContext, rows: CompiledRowSet) -> CountResult | None:
    try:
        return read_count(context.require_connection(), rows.count_statement(context.now))
    except apsw.InterruptError:  # the poll's time limit
        return None


def _group_by_label(
    results: list[tuple[TaskState, CountResult]], names: LabelLimit
) -> Mapping[tuple[str, TaskState], QueueCount]:
    groups: dict[tuple[str, TaskState], list[QueueCount]] = defaultdict(list)
    for state, result in results:
        for count in result.queues:
            groups[names.label_for(count.queue), state].append(count)
    return {key: total for key, counts in groups.items() if (total := merge_counts(counts)) is not None}


def _track_heads(
    current: tuple[QueueHead, ...], names: LabelLimit, before: Mapping[str, tuple[QueueHead, float]], now: float
) -> Mapping[str, tuple[QueueHead, float]]:
    """Each labelled queue's head with the time since which it is the same; other queues are not remembered."""
    heads: dict[str, tuple[QueueHead, float]] = {}
    for head in current:
        if head.queue in names.named:
            known = before.get(head.queue)
            heads[head.queue] = known if known is not None and known[0] == head else (head, now)
    return heads


def _oldest_samples(queue: str, waiting: QueueCount | None) -> Iterator[Sample]:
    if waiting is None:
        yield OLDEST(0, queue)
    elif waiting.oldest is not None:
        yield OLDEST(Since(waiting.oldest), queue)
