"""Looks at a database again: by stat, and only when that or the clock gives a reason, by opening it."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from collectors.access.change_detection import FileSignature, read_signature
from collectors.access.refresh import reason_to_open
from collectors.access.snapshot import Snapshot
from collectors.metric import Sample
from collectors.poll import poll_database, poll_outside_file
from collectors.raw_reader.client import RawReader, RawReaderUnavailable
from collectors.registry import COLLECTORS
from collectors.target import Target

_AT_FIRST = frozenset(collector.NAME for collector in COLLECTORS if not collector.SPEC.skip_first_poll)
_OUTSIDE_FILE = frozenset(m.name for collector in COLLECTORS if collector.SPEC.outside_file for m in collector.METRICS)


def poll_if_changed(target: Target, previous: Snapshot | None, now: float, raw: RawReader) -> Snapshot:
    """The database's snapshot at `now` (seconds since the epoch). Like `take`, never raises for what is wrong with it.

    At the first look, what is read at leisure is left out: the next one brings it.
    Without a reason to open it, the previous snapshot holds: its `taken_at` moves on, ages in it go on growing, and
    what lies beside the database (disk, backups) is read again. Call it with a path that has no symbolic link in it.
    """
    found = _signature_or_none(target, now)
    if (
        previous is not None
        and previous.target == target
        and found is not None
        and not reason_to_open(previous, found, now)
        and not _is_pinned(target, raw)
    ):
        return _confirm_snapshot(previous, now, raw)
    # the signature is from before the reading: what is committed in between shows as a change next time
    return poll_database(target, previous, now, raw, _AT_FIRST if previous is None else None, found)


def prefetch_surveys(batch: Iterable[tuple[Target, Snapshot | None]], raw: RawReader) -> None:
    """Before so many databases are revisited with their previous snapshots: ask about those that will surely be opened.

    Opens nothing and looks at no file itself. Not for what could not be read before: it may hang, and hold up the others.
    """
    surely = [one.path for one, previous in batch if previous is None or (previous.up and previous.can_age)]
    if len(surely) > 1:
        raw.prefetch_surveys(surely)


def _is_pinned(target: Target, raw: RawReader) -> bool:
    """Whether a reader has begun to hold back a WAL to which nobody writes: no file tells of it, its locks do."""
    with suppress(RawReaderUnavailable, OSError):  # then the collector that asks for the samples says why
        return raw.is_pinned(target.path)
    return False


def _signature_or_none(target: Target, now: float) -> FileSignature | None:
    try:
        return read_signature(target, now)
    except OSError:
        return None  # it may not be looked at: the poll says why


def _confirm_snapshot(previous: Snapshot, now: float, raw: RawReader) -> Snapshot:
    beside = poll_outside_file(previous, now, raw)
    if beside is None:
        return replace(previous, taken_at=now)
    return replace(
        previous,
        taken_at=now,
        readings={**previous.readings, **beside.readings},
        samples=(*_samples_of_file(previous), *beside.samples),
        collectors={**previous.collectors, **beside.collectors},
    )


def _samples_of_file(snapshot: Snapshot) -> Iterator[Sample]:
    return (sample for sample in snapshot.samples if sample.metric.name not in _OUTSIDE_FILE)
