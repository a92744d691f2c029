"""Looks at a database again: by stat, and only when that or the clock gives a reason, by opening it."""

from collections.abc import Iterator
from dataclasses import replace

from collectors.metric import Sample
from collectors.poll import take, take_beside
from collectors.raw_reader.ask import RawReader
from collectors.reading.due import ages, reason_to_open
from collectors.reading.signature import Signature, signature_of
from collectors.reading.snapshot import Snapshot
from collectors.registry import BESIDE, COLLECTORS
from collectors.target import Target

_BESIDE_METRICS = frozenset(m.name for one in COLLECTORS if one.NAME in BESIDE for m in one.METRICS)


def revisit(target: Target, previous: Snapshot | None, now: float, raw: RawReader) -> Snapshot:
    """The database's snapshot at `now` (seconds since the epoch). Like `take`, never raises for what is wrong with it.

    Without a reason to open it, the previous snapshot holds: its `taken_at` moves on, ages in it go on growing, and
    what lies beside the database (disk, backups) is read again. Call it with a path that has no symbolic link in it.
    """
    found = _signature(target, now)
    if (
        previous is not None
        and previous.target == target
        and found is not None
        and not reason_to_open(previous, found, now)
    ):
        return _confirmed(previous, now, raw)
    # the signature is from before the reading: what is committed in between shows as a change next time
    taken = take(target, previous, now, raw)
    return replace(taken, signature=found, opened_at=now, ages=ages(taken.samples))


def _signature(target: Target, now: float) -> Signature | None:
    try:
        return signature_of(target, now)
    except OSError:
        return None  # it may not be looked at: the poll says why


def _confirmed(previous: Snapshot, now: float, raw: RawReader) -> Snapshot:
    beside = take_beside(previous, now, raw)
    if beside is None:
        return replace(previous, taken_at=now)
    return replace(
        previous,
        taken_at=now,
        readings={**previous.readings, **beside.readings},
        samples=(*_of_the_file(previous), *beside.samples),
        collectors={**previous.collectors, **beside.collectors},
    )


def _of_the_file(snapshot: Snapshot) -> Iterator[Sample]:
    return (sample for sample in snapshot.samples if sample.metric.name not in _BESIDE_METRICS)
