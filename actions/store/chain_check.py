"""Verifies the whole history against its chain: every entry by its hash, every run by the digest in its newest entry."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import apsw

from actions.store.chain import (
    BEGAN,
    CHANGED,
    INSERTED,
    PAUSED,
    RESUMED,
    SEALED,
    ChainEntry,
    all_entries,
    hash_entry,
    highest_number,
    recorded_head,
    run_digests,
)
from actions.store.pause import pause_reason

FaultKind = Literal["changed", "missing", "inserted"]


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Something that is not as it was written. `at`: when the run was last recorded, seconds since the epoch, if known."""

    kind: FaultKind
    message: str
    run_id: int | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a verification of the history saw. `head`: the hash of the newest entry, empty without one.

    `sealed`: how many of the `runs` an earlier version recorded; changes of them before `sealed_at` cannot be seen.
    """

    runs: int = 0
    entries: int = 0
    head: str = ""
    last_entry: int = 0
    sealed: int = 0
    sealed_at: float | None = None
    faults: tuple[ChainFault, ...] = ()

    @classmethod
    def of_no_history(cls, known_head: str) -> "ChainReport":
        """The report where no history is; a fault when there was one, with a head that is known."""
        return cls(faults=(_unknown_head(known_head),) if known_head else ())


@dataclass(slots=True)
class _ChainWalk:
    """What the entries say, gathered from the oldest to the newest."""

    newest: dict[int, str] = field(default_factory=dict)  # the content of the newest entry of each run
    times: dict[int, float] = field(default_factory=dict)
    marks: dict[int, str] = field(default_factory=dict)
    sealed: set[int] = field(default_factory=set)
    sealed_at: float | None = None
    last_sealed: int = 0  # the highest number of a run before the chain began
    paused: str | None = None
    last: ChainEntry | None = None
    entries: int = 0
    broken_runs: set[int] = field(default_factory=set)
    faults: list[ChainFault] = field(default_factory=list)
    known_head: str = ""  # becomes empty when an entry has it


def verify_chain(history: apsw.Connection, known_head: str = "") -> ChainReport:
    """Verify all of it at one moment, in one read transaction. `known_head`: a hash that was printed or logged earlier.

    The faults of runs come first, by their numbers. Reads everything once: its time grows with the history.
    """
    history.execute("BEGIN")
    try:
        walk = _walk_entries(history, known_head)
        digests = dict(run_digests(history))
        run_faults = list(_run_faults(history, walk, digests))
        named = {fault.run_id for fault in run_faults}
        chain_faults = [fault for fault in walk.faults if fault.run_id is None or fault.run_id not in named]
        end_faults = [*_head_faults(history, walk), *_pause_faults(history, walk)]
    finally:
        history.execute("COMMIT")
    return ChainReport(
        runs=len(digests),
        entries=walk.entries,
        head="" if walk.last is None else walk.last.hash,
        last_entry=0 if walk.last is None else walk.last.sequence,
        sealed=len(walk.sealed & digests.keys()),
        sealed_at=walk.sealed_at,
        faults=(*run_faults, *chain_faults, *end_faults),
    )


def _walk_entries(history: apsw.Connection, known_head: str) -> _ChainWalk:
    walk = _ChainWalk(known_head=known_head)
    for entry in all_entries(history):
        _check_link(walk, entry)
        _add_entry(walk, entry)
    return walk


def _check_link(walk: _ChainWalk, entry: ChainEntry) -> None:
    """Check the hash of an entry against the entry before it; after a gap that one is not known."""
    expected = 1 if walk.last is None else walk.last.sequence + 1
    if entry.sequence != expected:
        walk.faults.append(ChainFault("missing", _missing_entries(expected, entry.sequence - 1), at=entry.at))
    elif entry.hash != hash_entry(entry, "" if walk.last is None else walk.last.hash):
        about = "a pause or its end" if entry.run_id is None else f"run {entry.run_id}"
        message = f"entry {entry.sequence} of the chain ({entry.event}, {about}) was changed after it was written"
        walk.faults.append(ChainFault("changed", message, entry.run_id, entry.at))
        if entry.run_id is not None:
            walk.broken_runs.add(entry.run_id)


def _add_entry(walk: _ChainWalk, entry: ChainEntry) -> None:
    walk.entries += 1
    walk.last = entry
    if entry.hash == walk.known_head:
        walk.known_head = ""
    if entry.event in (PAUSED, RESUMED) and entry.run_id is None:
        walk.paused = entry.detail if entry.event == PAUSED else None
    if entry.event == BEGAN and entry.detail.isascii() and entry.detail.isdigit():
        walk.last_sealed = int(entry.detail)
    if entry.run_id is None:
        return
    walk.newest[entry.run_id] = entry.content
    if entry.at is not None:
        walk.times[entry.run_id] = entry.at
    if entry.event in (CHANGED, INSERTED):
        walk.marks.setdefault(entry.run_id, entry.event)
    if entry.event == SEALED:
        walk.sealed.add(entry.run_id)
        walk.sealed_at = entry.at


def _run_faults(history: apsw.Connection, walk: _ChainWalk, digests: dict[int, str]) -> Iterator[ChainFault]:
    """The faults of runs, by their numbers. Numbers are given once and we never delete a run, so a gap is a fault."""
    previous = 0
    newest, last_sealed = max(walk.newest, default=0), walk.last_sealed
    for number in sorted(digests.keys() | walk.newest.keys()):
        # Gaps between sealed runs are older than the chain; the number of an inserted run says nothing about others.
        if (expected := max(previous, last_sealed) + 1) < number <= newest:
            yield _deleted_runs(expected, number - 1)
        if fault := _run_fault(walk, number, digests.get(number)):
            yield fault
        previous = max(previous, number)
    last = max(previous, newest, last_sealed)
    if (highest := highest_number(history, "run")) > last:
        yield _deleted_runs(last + 1, highest)


def _run_fault(walk: _ChainWalk, number: int, digest: str | None) -> ChainFault | None:
    at = walk.times.get(number)
    if digest is None:
        return ChainFault("missing", f"run {number} is missing: it was deleted", number, at)
    if number not in walk.newest or walk.marks.get(number) == INSERTED:
        return ChainFault("inserted", f"run {number} was inserted: queuekeeper did not record it", number, at)
    if digest != walk.newest[number] or number in walk.marks or number in walk.broken_runs:
        return ChainFault("changed", f"run {number} was changed after it was written", number, at)
    return None


def _deleted_runs(first: int, last: int) -> ChainFault:
    """Runs of which neither the row nor an entry is there."""
    if first == last:
        return ChainFault("missing", f"run {first} is missing: it was deleted", first)
    return ChainFault("missing", f"runs {first} to {last} are missing: they were deleted", first)


def _head_faults(history: apsw.Connection, walk: _ChainWalk) -> Iterator[ChainFault]:
    """What the end of the chain lacks: the number and hash of the newest entry are also in a second place."""
    last = 0 if walk.last is None else walk.last.sequence
    number, digest = recorded_head(history)
    highest = max(number, highest_number(history, "chain"))
    if highest > last:
        yield ChainFault("missing", _missing_entries(last + 1, highest))
    elif (number, digest) != (last, "" if walk.last is None else walk.last.hash):
        yield ChainFault("changed", "the recorded head of the chain is not its newest entry")
    if walk.known_head:
        yield _unknown_head(walk.known_head)


def _pause_faults(history: apsw.Connection, walk: _ChainWalk) -> Iterator[ChainFault]:
    if pause_reason(history) != walk.paused:
        yield ChainFault("changed", "the pause of all actions was changed after it was written")


def _unknown_head(head: str) -> ChainFault:
    return ChainFault("missing", f"the head {head} is not in this chain: its end was cut off, or it was written anew")


def _missing_entries(first: int, last: int) -> str:
    numbers = f"entry {first} of the chain is" if first == last else f"entries {first} to {last} of the chain are"
    return f"{numbers} missing"
