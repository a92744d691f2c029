"""One poll of one database: look whether it may be opened, open it once, run every collector, isolated and bounded."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw

from collectors.access.change_detection import FileSignature
from collectors.access.connection import BUSY_TIMEOUT, open_read_only
from collectors.access.context import PollContext
from collectors.access.errors import EXPECTED_ERRORS, describe_failure, reading_after_failure
from collectors.access.file_facts import DatabaseFacts, describe_writer, gather_facts, journal_persists
from collectors.access.label_limit import LabelLimit
from collectors.access.partly import PartialReading
from collectors.access.preflight import PreflightVerdict, decide_preflight
from collectors.access.refresh import any_reading_ages
from collectors.access.snapshot import CollectorResult, Snapshot
from collectors.access.timeouts import time_limit
from collectors.metric import Sample
from collectors.queue_profiles.cache import cached_profile, read_schema
from collectors.queue_profiles.compile import CompiledProfile
from collectors.raw_reader.client import RawReader, RawReaderUnavailable
from collectors.raw_reader.formats import DatabaseHeader
from collectors.raw_reader.survey import SurveyedReader
from collectors.registry import BESIDE, COLLECTORS, Collector
from collectors.target import Target

NO_PROFILE = (
    "no queue profile fits its tables: only the file is measured; `queuekeeper profiles detect` says what is missing"
)
# They need to know which queue it is.
QUEUE_COLLECTORS = frozenset({"tasks", "leases", "workers", "enqueued"})


@dataclass(slots=True)
class _OpenedDatabase:
    """What the collectors may work with. `trouble` is (word, sentence) where the profile could not be found out."""

    verdict: PreflightVerdict
    header: DatabaseHeader | None = None
    database: apsw.Connection | None = None
    profile: CompiledProfile | None = None
    trouble: tuple[str, str] | None = None
    facts: DatabaseFacts | None = None


@dataclass(slots=True)
class _CollectedReadings:
    """What the collectors have left so far."""

    readings: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    results: dict[str, CollectorResult] = field(default_factory=dict)

    def queue_label_limits(self) -> Iterator[LabelLimit]:
        """Of the collectors with a `queue` label: which queues have one of their own."""
        found = (getattr(reading, "names", None) for reading in self.readings.values())
        return (names for names in found if isinstance(names, LabelLimit))


def poll_database(
    target: Target,
    previous: Snapshot | None,
    now: float,
    raw: RawReader,
    only: frozenset[str] | None = None,
    signature: FileSignature | None = None,
) -> Snapshot:
    """Read one database. `now`: seconds since the epoch. `only`: names of the collectors to run, by default all.

    `signature`: what stat said of its files right before.
    Never raises for what is wrong with the database: `up`, `state`, `message` and each collector's result say it.
    """
    # SQLite puts -wal and -shm beside the file that a symbolic link leads to.
    real = replace(target, path=Path(os.path.realpath(target.path))) if target.path.is_symlink() else target
    wanted = [collector for collector in COLLECTORS if only is None or collector.NAME in only]
    surveyed = SurveyedReader(raw, real.path)
    with _open_database(real, surveyed) as opened:
        holders = opened.facts.holders if opened.facts else None
        look = PollContext(real, now, surveyed, opened.header, opened.database, opened.profile, holders)
        collected = _run_collectors(wanted, look, opened, previous)
        if _was_replaced(opened):
            return replace(_replaced_snapshot(target, previous, now, wanted), signature=signature, opened_at=now)
    return Snapshot(
        target=target,
        taken_at=now,
        up=opened.verdict.up,
        state=opened.verdict.state,
        message=_snapshot_message(opened),
        readings=collected.readings,
        samples=tuple(collected.samples),
        collectors=collected.results,
        folded_labels=max((names.folded for names in collected.queue_label_limits()), default=0),
        signature=signature,
        opened_at=now,
        ages=only is not None or any_reading_ages(collected.readings),
    )


def poll_outside_file(previous: Snapshot, now: float, raw: RawReader) -> Snapshot | None:
    """What lies beside the database (disk, backups) at `now`, read without opening it; None when nothing of it changed."""
    wanted = [collector for collector in COLLECTORS if collector.NAME in BESIDE]
    opened = _OpenedDatabase(PreflightVerdict(previous.state, may_open=False, up=previous.up))
    collected = _run_collectors(wanted, PollContext(previous.target, now, raw, None, None, None), opened, previous)
    if all(collected.readings.get(name) == previous.readings.get(name) for name in collected.results) and all(
        result.success for result in collected.results.values()
    ):
        return None
    return replace(
        previous, readings=collected.readings, samples=tuple(collected.samples), collectors=collected.results
    )


def _was_replaced(opened: _OpenedDatabase) -> bool:
    """Whether another file bears the name now: then the header and the connection may be of two different files."""
    before = opened.facts.database if opened.facts else None
    if before is None or opened.facts is None or opened.database is None:
        return False
    try:
        found = opened.facts.path.stat()
    except OSError:
        return True
    return (found.st_dev, found.st_ino) != before.identity


def _replaced_snapshot(target: Target, previous: Snapshot | None, now: float, wanted: list[Collector]) -> Snapshot:
    """A snapshot without values: they may belong to two files. The memory of the collectors outlives it."""
    message = f"{target.path} was replaced while it was read; the next poll reads the new file"
    return Snapshot(
        target=target,
        taken_at=now,
        up=False,
        state="replaced",
        message=message,
        readings=previous.readings if previous else {},
        collectors={one.NAME: CollectorResult(False, 0.0, "replaced", message) for one in wanted},
    )


@contextmanager
def _open_database(target: Target, raw: RawReader) -> Iterator[_OpenedDatabase]:
    """Preflight, then one connection for all collectors. What fails here becomes the verdict."""
    facts = None
    with ExitStack() as stack:
        try:
            facts = gather_facts(target, raw)
            with _release_afterwards(facts, raw):
                verdict = decide_preflight(facts)
                opened = _OpenedDatabase(verdict, facts.header, facts=facts)
                if verdict.may_open:
                    timeout = min(BUSY_TIMEOUT, _read_limit(target, facts.header))
                    _prove_readable(target, opened, stack.enter_context(open_read_only(target.path, timeout)))
        except EXPECTED_ERRORS as error:
            verdict = _failed_verdict(target, error, raw)
            opened = _OpenedDatabase(verdict, facts.header if facts else None, facts=facts)
        yield opened


@contextmanager
def _release_afterwards(facts: DatabaseFacts, raw: RawReader) -> Iterator[None]:
    """What `gather` held is given back, whatever happens: from then on our connection holds the same lock."""
    try:
        yield
    finally:
        if facts.held == "held":
            raw.release_wal(facts.path)


def _failed_verdict(target: Target, error: BaseException, raw: RawReader) -> PreflightVerdict:
    word, sentence = describe_failure(error)
    if word == "hot_journal" and not journal_persists(target):
        word, sentence = "busy", "a transaction came in between"
    if word == "busy":
        with suppress(RawReaderUnavailable, OSError):  # then it stays unsaid who
            sentence = (
                f"{sentence}, held by {describe_writer(raw, target.path) or 'a process that is not visible to us'}"
            )
    return PreflightVerdict(word, may_open=False, up=False, message=f"{target.path}: {sentence}")


def _prove_readable(target: Target, opened: _OpenedDatabase, database: apsw.Connection) -> None:
    """The first read proves that it can be read; then which queue it is. Raises what is in EXPECTED."""
    with time_limit(database, _read_limit(target, opened.header)):
        schema = read_schema(database)
        opened.database = database
        try:
            opened.profile = cached_profile(database, schema, target)
        except EXPECTED_ERRORS as error:
            opened.trouble = describe_failure(error)


def _run_collectors(
    wanted: list[Collector], look: PollContext, opened: _OpenedDatabase, previous: Snapshot | None
) -> _CollectedReadings:
    before: Mapping[str, Any] = previous.readings if previous else {}
    collected = _CollectedReadings()
    for collector in wanted:
        _run_collector(collector, look, opened, before.get(collector.NAME), collected)
    return collected


def _run_collector(
    collector: Collector, look: PollContext, opened: _OpenedDatabase, previous: Any, collected: _CollectedReadings
) -> None:
    """One collector: its reading and samples, or the reason why there are none. Its memory outlives a failure."""
    started = time.perf_counter()
    try:
        refused = _refusal_reason(collector, opened)
        if refused is None:
            with _collector_time_limit(collector, look):
                _record_reading(collector, collector.read(look, previous), collected)
        word, sentence = refused or ("", "")
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
    collected.samples.extend(samples)


def _refusal_reason(collector: Collector, opened: _OpenedDatabase) -> tuple[str, str] | None:
    """Why this collector cannot run, if so. The queue's collectors need to know which queue it is."""
    if not collector.NEEDS_DATABASE:
        return None
    if opened.database is None:
        return opened.verdict.state, opened.verdict.message
    return opened.trouble if collector.NAME in QUEUE_COLLECTORS else None


def _collector_time_limit(collector: Collector, look: PollContext) -> AbstractContextManager[None]:
    if look.database is None or collector.NAME in BESIDE:
        return nullcontext()
    return time_limit(look.database, _read_limit(look.target, look.header))


def _read_limit(target: Target, header: DatabaseHeader | None) -> float:
    """A reader of a WAL database is in nobody's way; on a rollback journal it stops every commit while it reads."""
    wal = header is not None and header.wal
    return target.limits.read_wal if wal else target.limits.read_rollback


def _snapshot_message(opened: _OpenedDatabase) -> str:
    if opened.verdict.message:
        return opened.verdict.message
    if opened.trouble is not None:
        return opened.trouble[1]
    return NO_PROFILE if opened.database is not None and opened.profile is None else ""
