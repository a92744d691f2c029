"""Polls a database again: by stat, and by opening it only when its files or the clock give a reason."""

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
    """The snapshot at `now` (seconds since the epoch). Like `poll_database`, it never raises for a faulty database.

    The first poll leaves out the collectors with `skip_first_poll`: the next one runs them.
    Without a reason to open it, the previous snapshot still holds: its `taken_at` moves on, ages in it go on growing, and
    what lies outside the file (disk, backups) is read again. Call it with a path that has no symbolic link in it.
    """
    signature = _signature_or_none(target, now)
    if (
        previous is not None
        and previous.target == target
        and signature is not None
        and not reason_to_open(previous, signature, now)
        and not _locks_tell_more(target, raw)
    ):
        return _confirm_snapshot(previous, now, raw)
    is_first = previous is None or previous.opened_at == 0.0  # what was remembered of an earlier process was not opened
    # The signature is from before the reading: a commit in between shows as a change at the next poll.
    return poll_database(target, previous, now, raw, _AT_FIRST if is_first else None, signature)


def prefetch_surveys(batch: Iterable[tuple[Target, Snapshot | None]], raw: RawReader) -> None:
    """Ask the raw reader in one exchange about the databases of a batch (with previous snapshots) that will be opened.

    Opens nothing and reads no file itself. It leaves out what could not be read before: that may hang and delay the others.
    """
    to_open = [target.path for target, previous in batch if previous is None or (previous.up and previous.can_age)]
    if len(to_open) > 1:
        raw.prefetch_surveys(to_open)


def _locks_tell_more(target: Target, raw: RawReader) -> bool:
    """Whether a reader pins a WAL that is not written to, or a process works by another name: no file here changes then."""
    with suppress(RawReaderUnavailable, OSError):  # then the write_lock collector reports why
        return raw.is_pinned(target.path) or raw.is_used_elsewhere(target.path)
    return False


def _signature_or_none(target: Target, now: float) -> FileSignature | None:
    try:
        return read_signature(target, now)
    except OSError:
        return None  # no permission: the poll reports why


def _confirm_snapshot(previous: Snapshot, now: float, raw: RawReader) -> Snapshot:
    outside = poll_outside_file(previous, now, raw)
    if outside is None:
        return replace(previous, taken_at=now)
    return replace(
        previous,
        taken_at=now,
        readings={**previous.readings, **outside.readings},
        samples=(*_samples_of_file(previous), *outside.samples),
        collectors={**previous.collectors, **outside.collectors},
    )


def _samples_of_file(snapshot: Snapshot) -> Iterator[Sample]:
    return (sample for sample in snapshot.samples if sample.metric.name not in _OUTSIDE_FILE)
