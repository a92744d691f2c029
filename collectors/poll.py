"""One poll of one database: check whether it may be opened, open it once, run every collector, isolated and bounded."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from collectors import storage
from collectors.access.change_detection import FileSignature
from collectors.access.context import PollContext
from collectors.access.errors import EXPECTED_ERRORS, PartialReading, describe_failure, reading_after_failure
from collectors.access.label_limit import count_folded_labels
from collectors.access.open_database import OpenedDatabase, find_reading_problem, open_database
from collectors.access.preflight import PreflightVerdict
from collectors.access.refresh import any_reading_can_age
from collectors.access.second_name import SECOND_NAME, WAL_DELETED
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.access.timeouts import TimeLimitExceeded, time_limit
from collectors.content_loss.memory import ContentMemory
from collectors.content_loss.reading import ContentReading
from collectors.metric import Sample
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.shared_reads import SharedReads
from collectors.raw_reader.client import RawReader, SurveyedReader
from collectors.registry import COLLECTORS, Collector
from collectors.target import Target

# What the collectors share is read within this part of the budget of a read: it holds the lock for longer than a read of one.
SHARED_PART = 0.4
# Seconds for which they read separately when that was too slow, so that a poll seldom pays for an attempt that fails.
SEPARATE_FOR = 60.0
_COLLECTOR_NAMES = tuple(collector.NAME for collector in COLLECTORS)
NO_PROFILE = (
    "no queue profile fits its tables: only the file is measured; `queuekeeper profiles detect` says what is missing"
)


@dataclass(slots=True)
class _CollectedReadings:
    """What the collectors have read so far, by their names."""

    readings: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, tuple[Sample, ...]] = field(default_factory=dict)
    results: dict[str, CollectorResult] = field(default_factory=dict)
    separate_until: float = 0.0

    def samples_in_order(self) -> tuple[Sample, ...]:
        """All samples, in the order of the registry, however the collectors were run."""
        return tuple(sample for name in _COLLECTOR_NAMES for sample in self.samples.get(name, ()))

    def results_in_order(self) -> dict[str, CollectorResult]:
        """The result of each collector that was run, in the order of the registry."""
        return {name: self.results[name] for name in _COLLECTOR_NAMES if name in self.results}


def poll_database(
    target: Target,
    previous: Snapshot | None,
    now: float,
    raw: RawReader,
    only: frozenset[str] | None = None,
    signature: FileSignature | None = None,
) -> Snapshot:
    """Read one database. `now`: seconds since the epoch. `only`: names of the collectors to run, by default all.

    `signature`: the stat of its files right before.
    Never raises for what is wrong with the database: `up`, `state`, `message` and each collector's result say it.
    """
    # SQLite puts -wal and -shm beside the file that a symbolic link leads to.
    real = replace(target, path=Path(os.path.realpath(target.path))) if target.path.is_symlink() else target
    wanted = [collector for collector in COLLECTORS if only is None or collector.NAME in only]
    surveyed = SurveyedReader(raw, real.path)
    with open_database(real, surveyed) as opened:
        held_locks = opened.facts.held_locks if opened.facts else None
        context = PollContext(real, now, surveyed, opened.header, opened.connection, opened.schema, held_locks)
        collected = _run_collectors(wanted, context, opened, previous)
        if (problem := find_reading_problem(opened)) is not None:
            return replace(_snapshot_without_values(target, previous, now, wanted, problem), opened_at=now)
    return Snapshot(
        target=target,
        taken_at=now,
        up=opened.verdict.up,
        state=opened.verdict.state,
        message=_snapshot_message(opened, context),
        readings=collected.readings,
        samples=collected.samples_in_order(),
        collectors=collected.results_in_order(),
        folded_labels=count_folded_labels(collected.readings),
        signature=signature,
        opened_at=now,
        can_age=only is not None or any_reading_can_age(collected.readings),
        separate_until=collected.separate_until,
    )


def remembered_snapshot(target: Target, memory: ContentMemory) -> Snapshot:
    """What an earlier process remembered, as the previous snapshot of a first poll."""
    unread = storage.StorageReading(0, 0, None, None, None, ContentReading(memory=memory))
    return Snapshot(target, 0.0, up=False, state="", readings={storage.NAME: unread})


def poll_outside_file(previous: Snapshot, now: float, raw: RawReader) -> Snapshot | None:
    """Readings that do not come out of the database's files (disk, backups) at `now`; None when none of them changed."""
    wanted = [collector for collector in COLLECTORS if collector.SPEC.outside_file]
    opened = OpenedDatabase(PreflightVerdict(previous.state, may_open=False, up=previous.up))
    collected = _run_collectors(wanted, PollContext(previous.target, now, raw), opened, previous)
    if all(collected.readings.get(name) == previous.readings.get(name) for name in collected.results) and all(
        result.success for result in collected.results.values()
    ):
        return None
    return replace(
        previous,
        readings=collected.readings,
        samples=collected.samples_in_order(),
        collectors=collected.results_in_order(),
    )


def _snapshot_without_values(
    target: Target, previous: Snapshot | None, now: float, wanted: list[Collector], problem: PreflightVerdict
) -> Snapshot:
    """A snapshot without values: they may belong to two files, or to two moments. The collectors keep their previous readings.

    Without a signature: the next poll reads again.
    """
    failed = CollectorResult(False, 0.0, problem.state, problem.message)
    return Snapshot(
        target=target,
        taken_at=now,
        up=problem.up,
        state=problem.state,
        message=problem.message,
        readings=previous.readings if previous else {},
        collectors={collector.NAME: failed for collector in wanted},
    )


def _run_collectors(
    wanted: list[Collector], context: PollContext, opened: OpenedDatabase, previous: Snapshot | None
) -> _CollectedReadings:
    """Run the collectors in three steps: those that run first, what the others share, the others."""
    before: Mapping[str, Any] = previous.readings if previous else {}
    collected = _CollectedReadings(separate_until=previous.separate_until if previous else 0.0)
    if any(collector.SPEC.needs_profile for collector in wanted):
        context.find_profile()
    for first in (True, False):
        for collector in wanted:
            if collector.SPEC.runs_first == first:
                read = partial(_read_bounded, collector, context)
                _run_collector(collector, read, _refusal_reason(collector, context, opened), before, collected)
        if first and context.connection is not None:
            collected.separate_until = _read_shared(wanted, context, collected.separate_until)
    return collected


def _read_shared(wanted: list[Collector], context: PollContext, separate_until: float) -> float:
    """Read what the collectors share. Returns until when that is not to be tried again, as it was too slow.

    After any failure each collector reads by itself, and reports its own.
    """
    if 0 < separate_until - context.now <= SEPARATE_FOR:
        return separate_until
    profile = context.find_profile() if any(collector.SPEC.needs_profile for collector in wanted) else None
    for collector in wanted:
        if collector.SPEC.shared_read is not None and not (collector.SPEC.needs_profile and profile is None):
            context.shared_reads.expect(partial(_expect_reads, collector, profile, context.now))
    seconds = SHARED_PART * context.read_limit
    try:
        with ExitStack() as stack:
            limit = time_limit(context.shared_reads.connection, seconds)
            context.shared_reads.read_expected(lambda: stack.enter_context(limit))
    except TimeLimitExceeded:
        return context.now + SEPARATE_FOR
    except EXPECTED_ERRORS:
        pass
    return 0.0


def _expect_reads(collector: Collector, profile: CompiledProfile | None, now: float, reads: SharedReads) -> None:
    if collector.SPEC.shared_read is not None:
        collector.SPEC.shared_read(reads, profile, now)


def _run_collector(
    collector: Collector,
    read: Callable[[Any], Any],
    refusal: tuple[str, str] | None,
    before: Mapping[str, Any],
    collected: _CollectedReadings,
) -> None:
    """Record the reading and samples of a collector, or why there are none. Its previous reading outlives a failure."""
    started = time.perf_counter()
    previous = before.get(collector.NAME)
    try:
        if refusal is None:
            _record_reading(collector, read(previous), collected)
        word, sentence = refusal or ("", "")
    except PartialReading as error:
        _record_reading(collector, error.reading, collected)
        previous, (word, sentence) = None, (error.word, str(error))
    except EXPECTED_ERRORS as error:
        word, sentence = describe_failure(error)
        previous = reading_after_failure(error, previous)
    if word and previous is not None:
        collected.readings[collector.NAME] = previous
    collected.results[collector.NAME] = CollectorResult(not word, time.perf_counter() - started, word, sentence)


def _record_reading(collector: Collector, reading: Any, collected: _CollectedReadings) -> None:
    samples = tuple(collector.samples(reading))
    collected.readings[collector.NAME] = reading
    collected.samples[collector.NAME] = samples


def _refusal_reason(collector: Collector, context: PollContext, opened: OpenedDatabase) -> tuple[str, str] | None:
    """Why this collector cannot run, if so. By another name its sizes, WAL and locks are not seen either."""
    if opened.verdict.state in (SECOND_NAME, WAL_DELETED) and not collector.SPEC.outside_file:
        return opened.verdict.state, opened.verdict.message
    if not collector.SPEC.needs_connection:
        return None
    if context.connection is None:
        return opened.verdict.state, opened.verdict.message
    return context.profile_failure if collector.SPEC.needs_profile else None


def _read_bounded(collector: Collector, context: PollContext, previous: Any) -> Any:
    if context.connection is None or collector.SPEC.outside_file:
        return collector.read(context, previous)
    with time_limit(context.connection, context.read_limit):
        return collector.read(context, previous)


def _snapshot_message(opened: OpenedDatabase, context: PollContext) -> str:
    if opened.verdict.message:
        return opened.verdict.message
    if context.profile_failure is not None:
        return context.profile_failure[1]
    return NO_PROFILE if context.is_unknown_queue else ""
