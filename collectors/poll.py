"""One poll of one database: look whether it may be opened, open it once, run every collector, isolated and bounded."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw

from collectors.metric import Sample
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.kept import kept_profile, schema_of
from collectors.raw_reader.ask import RawReader
from collectors.raw_reader.layout import DatabaseHeader
from collectors.raw_reader.survey import Surveyed
from collectors.reading.connection import BUSY_TIMEOUT, read_only
from collectors.reading.look import Look
from collectors.reading.preflight import Verdict, decide, gather
from collectors.reading.reasons import EXPECTED, reason
from collectors.reading.snapshot import CollectorResult, Snapshot
from collectors.reading.time_limit import time_limit
from collectors.registry import BESIDE, COLLECTORS, Collector
from collectors.target import Target

NO_PROFILE = "no queue profile fits its tables: only the file is measured"


@dataclass(frozen=True, slots=True)
class _Opened:
    """What the collectors may work with. `trouble` is (word, sentence) where the profile could not be found out."""

    verdict: Verdict
    header: DatabaseHeader | None = None
    database: apsw.Connection | None = None
    profile: CompiledProfile | None = None
    trouble: tuple[str, str] | None = None


@dataclass(slots=True)
class _Collected:
    """What the collectors have left so far."""

    readings: dict[str, Any] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    results: dict[str, CollectorResult] = field(default_factory=dict)


def take(
    target: Target, previous: Snapshot | None, now: float, raw: RawReader, only: frozenset[str] | None = None
) -> Snapshot:
    """Read one database. `now`: seconds since the epoch. `only`: names of the collectors to run, by default all.

    Never raises for what is wrong with the database: `up`, `state`, `message` and each collector's result say it.
    """
    # SQLite puts -wal and -shm beside the file that a symbolic link leads to.
    real = replace(target, path=Path(os.path.realpath(target.path)))
    wanted = [collector for collector in COLLECTORS if only is None or collector.NAME in only]
    surveyed = Surveyed(raw, real.path)
    with _opened(real, surveyed) as opened:
        look = Look(real, now, surveyed, opened.header, opened.database, opened.profile)
        collected = _run_all(wanted, look, opened, previous)
    return Snapshot(
        target=target,
        taken_at=now,
        up=opened.verdict.up,
        state=opened.verdict.state,
        message=_message(opened),
        readings=collected.readings,
        samples=tuple(collected.samples),
        collectors=collected.results,
    )


def take_beside(previous: Snapshot, now: float, raw: RawReader) -> Snapshot | None:
    """What lies beside the database (disk, backups) at `now`, read without opening it; None when nothing of it changed."""
    wanted = [collector for collector in COLLECTORS if collector.NAME in BESIDE]
    opened = _Opened(Verdict(previous.state, may_open=False, up=previous.up))
    collected = _run_all(wanted, Look(previous.target, now, raw, None, None, None), opened, previous)
    if all(collected.readings.get(name) == previous.readings.get(name) for name in collected.results) and all(
        result.success for result in collected.results.values()
    ):
        return None
    return replace(
        previous, readings=collected.readings, samples=tuple(collected.samples), collectors=collected.results
    )


@contextmanager
def _opened(target: Target, raw: RawReader) -> Iterator[_Opened]:
    """Preflight, then one connection for all collectors. What fails here becomes the verdict."""
    header = None
    with ExitStack() as stack:
        try:
            facts = gather(target, raw)
            header = facts.header
            verdict = decide(facts)
            opened = _Opened(verdict, header)
            if verdict.may_open:
                database = stack.enter_context(read_only(target.path, min(BUSY_TIMEOUT, _limit(target, header))))
                opened = _probed(target, opened, database)
        except EXPECTED as error:
            word, sentence = reason(error)
            opened = _Opened(Verdict(word, may_open=False, up=False, message=f"{target.path}: {sentence}"), header)
        yield opened


def _probed(target: Target, opened: _Opened, database: apsw.Connection) -> _Opened:
    """The first read proves that it can be read; then which queue it is. Raises what is in EXPECTED."""
    with time_limit(database, _limit(target, opened.header)):
        schema = schema_of(database)
        try:
            return replace(opened, database=database, profile=kept_profile(database, schema, target))
        except EXPECTED as error:
            return replace(opened, database=database, trouble=reason(error))


def _run_all(wanted: list[Collector], look: Look, opened: _Opened, previous: Snapshot | None) -> _Collected:
    before: Mapping[str, Any] = previous.readings if previous else {}
    collected = _Collected()
    for collector in wanted:
        _run(collector, look, opened, before.get(collector.NAME), collected)
    return collected


def _run(collector: Collector, look: Look, opened: _Opened, previous: Any, collected: _Collected) -> None:
    """One collector: its reading and samples, or the reason why there are none. Its memory outlives a failure."""
    started = time.perf_counter()
    try:
        refused = _refused(collector, opened)
        if refused is None:
            with _bounded(look):
                reading = collector.read(look, previous)
                samples = tuple(collector.samples(reading))
            collected.readings[collector.NAME] = reading
            collected.samples.extend(samples)
        word, sentence = refused or ("", "")
    except EXPECTED as error:
        word, sentence = reason(error)
    if word and previous is not None:
        collected.readings[collector.NAME] = previous
    collected.results[collector.NAME] = CollectorResult(not word, time.perf_counter() - started, word, sentence)


def _refused(collector: Collector, opened: _Opened) -> tuple[str, str] | None:
    """Why this collector cannot run, if so. The queue's collectors need to know which queue it is."""
    if not collector.NEEDS_DATABASE:
        return None
    if opened.database is None:
        return opened.verdict.state, opened.verdict.message
    return opened.trouble if collector.NAME in ("tasks", "leases") else None


@contextmanager
def _bounded(look: Look) -> Iterator[None]:
    if look.database is None:
        yield
    else:
        with time_limit(look.database, _limit(look.target, look.header)):
            yield


def _limit(target: Target, header: DatabaseHeader | None) -> float:
    """A reader of a WAL database is in nobody's way; on a rollback journal it stops every commit while it reads."""
    wal = header is not None and header.wal
    return target.limits.read_wal if wal else target.limits.read_rollback


def _message(opened: _Opened) -> str:
    if opened.verdict.message:
        return opened.verdict.message
    if opened.trouble is not None:
        return opened.trouble[1]
    return NO_PROFILE if opened.database is not None and opened.profile is None else ""
