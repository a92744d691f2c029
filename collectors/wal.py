"""The write-ahead log: how many frames wait to be copied, and which readers prevent that.

Numbers come from `PRAGMA wal_checkpoint(NOOP)`, which changes nothing; generation and readers from the WAL-index and
the kernel's lock table, read by the raw reader (docs/safety.md).
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from collectors.access.context import CollectorSpec, PollContext
from collectors.access.file_facts import stat_or_none
from collectors.metric import Metric, Sample, Since
from collectors.raw_reader.client import RAW_READER_MODULE as RAW_READER
from collectors.raw_reader.wal_readers import HeldLock, Pin, PinningReader, flock_holder_pid, pinning_readers
from collectors.wal_state import (
    BACKLOG_FRAMES,
    STATES,
    WalMemory,
    WalObservation,
    classify_wal,
    is_stuck_unseen,
    remember_observation,
)

NAME = "wal"
SPEC = CollectorSpec(runs_first=True)

FRAMES = Metric(
    "sqlite_wal_frames", "Live frames in the WAL (PRAGMA wal_checkpoint(NOOP)).", fold="sum", moved_by_actions=True
)
COPIED = Metric(
    "sqlite_wal_checkpointed_frames",
    "Live frames that are already copied into the database (PRAGMA wal_checkpoint(NOOP)).",
    fold="sum",
    moved_by_actions=True,
)
BACKLOG = Metric(
    "sqlite_wal_backlog_bytes",
    "Bytes of pages in the WAL that are not yet copied into the database.",
    fold="sum",
    moved_by_actions=True,
)
STATE = Metric(
    "sqlite_wal_state",
    "1 for the current state of the WAL, else 0, from two readings (WAL-index, kernel lock table).",
    ("state",),
    needs_two_readings=True,
    moved_by_actions=True,
)
PINNED = Metric(
    "sqlite_wal_pinned_seconds",
    "Seconds for which a reader has held checkpoints back, at least: since first seen. command is the kernel's short "
    "name of its process, unknown when it is not visible.",
    ("command",),
    needs_two_readings=True,
    moved_by_actions=True,
)
METRICS = (FRAMES, COPIED, BACKLOG, STATE, PINNED)

MAX_COMMANDS = 5
# Our children that read with a snapshot: they pin the WAL by design, which is no finding.
_OUR_CHILDREN = ("actions.runner.child", RAW_READER)


@dataclass(frozen=True, slots=True)
class WalReading:
    """One reading. `frames` and `copied` are None where no connection could be asked.

    `pinners` are readers of other processes; `pinned_since` is when each pin was first seen (seconds since the epoch).
    """

    state: str
    frames: int | None
    copied: int | None
    page_size: int
    pinners: tuple[PinningReader, ...]
    pinned_since: Mapping[Pin, float]
    memory: WalMemory
    commands: Mapping[str, float] = field(default_factory=dict)

    def can_age(self) -> bool:
        """Whether the state may change without any write: a reader that pins may leave (`collectors.access.refresh`).

        A quiet database usually has some frames pending, up to its application's checkpoint size: they do not age.
        """
        if self.frames is None or self.copied is None:
            return False
        return self.memory.earlier is None or bool(self.pinners) or self.frames - self.copied > BACKLOG_FRAMES


def read(context: PollContext, previous: WalReading | None) -> WalReading:
    """Read the WAL. Raises apsw.Error, OSError, RawReaderUnavailable."""
    if (context.header is not None and not context.header.wal) or stat_or_none(context.target.wal) is None:
        return WalReading("absent", None, None, 0, (), {}, WalMemory())
    if context.connection is None:
        return WalReading("unknown", None, None, 0, (), {}, WalMemory())
    _, frames, copied = context.connection.execute("PRAGMA wal_checkpoint(NOOP)").get
    now, held = _observe_wal(context)
    memory = remember_observation(previous.memory if previous else WalMemory(), now)
    state = classify_wal(memory.earlier, now)
    since = _pins_first_seen(now, previous)
    return WalReading(
        state=state,
        frames=max(0, frames),
        copied=max(0, copied),
        page_size=context.header.page_size if context.header else 0,
        pinners=held,
        pinned_since=since,
        memory=memory,
        commands=_pinning_commands(held, since, memory.earlier, now),
    )


def samples(reading: WalReading) -> Iterator[Sample]:
    """Yield the numbers that are known, all states, and which commands pin."""
    if reading.frames is not None and reading.copied is not None:
        yield FRAMES(reading.frames)
        yield COPIED(reading.copied)
        yield BACKLOG(max(0, reading.frames - reading.copied) * reading.page_size)
    for state in STATES:
        yield STATE(float(state == reading.state), state)
    for command, since in reading.commands.items():
        yield PINNED(Since(since), command)


def _observe_wal(context: PollContext) -> tuple[WalObservation, tuple[PinningReader, ...]]:
    """The observation of the WAL-index and the lock table, and the readers that pin."""
    index = context.raw.read_wal_index(context.target.path)
    foreign = None if context.held_locks is None else tuple(_foreign_locks(context.held_locks))
    if index is None:
        return WalObservation(context.now, "", 0, 0, 0, frozenset(), seen=False), ()
    held = pinning_readers(index, foreign or ())
    pins = frozenset(pinner.pin for pinner in held)
    connected = foreign is not None and any(holder.file == "shm" for holder in foreign)
    return (
        WalObservation(
            context.now, index.salt, index.changes, index.frames, index.copied, pins, foreign is not None, connected
        ),
        held,
    )


def _foreign_locks(holders: Sequence[HeldLock]) -> Iterator[HeldLock]:
    """Locks of other processes: without ours, our children's and those of a running action (it holds the action lock)."""
    me, acting = os.getpid(), flock_holder_pid(holders)
    for holder in holders:
        ours = holder.parent == me and any(name in holder.command_line for name in _OUR_CHILDREN)
        if holder.pid not in (me, acting) and not ours:
            yield holder


def _pins_first_seen(now: WalObservation, previous: WalReading | None) -> dict[Pin, float]:
    before: Mapping[Pin, float] = previous.pinned_since if previous else {}
    return {pin: before.get(pin, now.at) for pin in now.pins}


def _pinning_commands(
    held: Iterable[PinningReader], since: Mapping[Pin, float], earlier: WalObservation | None, now: WalObservation
) -> dict[str, float]:
    """Since when each command pins; only pins of both readings count. The longest ones, at most MAX_COMMANDS."""
    if earlier is None:
        return {}
    pinned_since: dict[str, float] = {}
    for pinner in held:
        if pinner.pin in earlier.pins:
            command = pinner.command or "unknown"
            pinned_since[command] = min(since[pinner.pin], pinned_since.get(command, since[pinner.pin]))
    if not pinned_since and is_stuck_unseen(earlier, now):
        pinned_since["unknown"] = earlier.at
    return dict(sorted(pinned_since.items(), key=lambda item: item[1])[:MAX_COMMANDS])
