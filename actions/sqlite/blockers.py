"""Who stands in the way of a checkpoint: processes by name, where the kernel's lock table shows them; never a guess.

One look proves little: reads are short, and a writer holds the lock for a moment in each transaction. Somebody counts as
in the way who is seen again (docs/safety.md).
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from actions.model.context import ActionContext
from actions.model.errors import Refused
from collectors.poll import poll_database
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable
from collectors.raw_reader.wal_readers import (
    HeldLock,
    PinningReader,
    find_checkpoint_lock,
    find_read_locks,
    find_write_lock,
)
from collectors.wal import WalReading
from collectors.wal_state import MIN_DISTANCE

# Seconds between two looks at the same reader.
SECOND_LOOK_AFTER = 0.1
# Questions to a raw reader that is late.
RAW_READER_TRIES = 3
LockUser = TypeVar("LockUser", PinningReader, HeldLock)
# Looks at who comes and goes, and the seconds between two of them.
TRAFFIC_SAMPLES, SAMPLE_INTERVAL = 6, 0.02


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process. `command_line` is empty where only its short name is known."""

    pid: int
    command: str
    command_line: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command_line or self.command})"


@dataclass(frozen=True, slots=True)
class WalBlockers:
    """The state of the WAL as `sqlite_wal_state` names it, and the readers that pin it."""

    state: str
    readers: tuple[ProcessRef, ...] = ()


@dataclass(frozen=True, slots=True)
class WalTraffic:
    """Who came and went in LOOKS looks, most often seen first; `writer` held the write lock in all of them."""

    readers: tuple[ProcessRef, ...] = ()
    writer: ProcessRef | None = None
    checkpointers: tuple[ProcessRef, ...] = ()


def measure_wal_blockers(work: ActionContext) -> WalBlockers:
    """The state of the WAL by the two readings that it needs. Raises Refused, and Cancelled or Interrupted between them."""
    only = frozenset({"wal"})
    first = poll_database(work.target, None, work.now(), work.raw, only)
    work.stop.wait_for_stop(MIN_DISTANCE + 0.01)
    work.stop.raise_if_requested()
    found = poll_database(work.target, first, work.now(), work.raw, only).readings.get("wal")
    if not isinstance(found, WalReading) or found.memory.earlier is None:
        return WalBlockers("unknown", find_lasting_readers(work))
    earlier = found.memory.earlier.pins
    pinning = [one for one in found.pinners if _pin_key(one) in earlier and not _is_own_process(work, one.pid)]
    return WalBlockers(found.state, tuple(_process_ref(one) for one in pinning))


def find_lasting_readers(work: ActionContext) -> tuple[ProcessRef, ...]:
    """Who holds the WAL back at the same mark now and LOOK_TWICE later. None where nobody is shown. Raises Refused."""
    first = {_pin_key(pinner) for pinner in _find_pinners(work)}
    if not first:
        return ()
    time.sleep(SECOND_LOOK_AFTER)
    return tuple(_process_ref(pinner) for pinner in _find_pinners(work) if _pin_key(pinner) in first)


def sample_wal_traffic(work: ActionContext) -> WalTraffic:
    """Who reads and writes now, whatever their marks: a log starts over only when nobody reads it at all."""
    looks = []
    for number in range(TRAFFIC_SAMPLES):
        if number:
            time.sleep(SAMPLE_INTERVAL)
        looks.append(_find_holders(work))
    writers = _count_sightings((one,) if (one := find_write_lock(holders)) else () for holders in looks)
    return WalTraffic(
        readers=tuple(_count_sightings(find_read_locks(holders) for holders in looks)),
        writer=next((who for who, seen in writers.items() if seen == TRAFFIC_SAMPLES), None),
        checkpointers=tuple(
            _count_sightings((one,) if (one := find_checkpoint_lock(holders)) else () for holders in looks)
        ),
    )


def _count_sightings(looks: Iterable[Iterable[HeldLock]]) -> dict[ProcessRef, int]:
    """In how many looks each was seen, most often first."""
    return dict(Counter(who for holders in looks for who in {_process_ref(one) for one in holders}).most_common())


def describe_processes(found: Iterable[ProcessRef]) -> str:
    """The first three, in words."""
    return ", ".join(str(one) for one in list(found)[:3])


def _find_pinners(work: ActionContext) -> tuple[PinningReader, ...]:
    found = _query_raw_reader(work, work.raw.find_pinning_readers)
    return tuple(pinner for pinner in found if pinner.blocks_frames > 0 and not _is_own_process(work, pinner.pid))


def _find_holders(work: ActionContext) -> tuple[HeldLock, ...]:
    return tuple(
        holder for holder in _query_raw_reader(work, work.raw.find_held_locks) if not _is_own_process(work, holder.pid)
    )


def _query_raw_reader(work: ActionContext, question: Callable[[Path], tuple[LockUser, ...]]) -> tuple[LockUser, ...]:
    """Nobody where this system shows no locks. A raw reader that is late on a busy machine is asked again: late is not nobody.

    Raises Refused when it stays so.
    """
    for _ in range(RAW_READER_TRIES):
        with suppress(RawReaderUnavailable):
            try:
                return question(work.target.path)
            except LockTableUnseen:
                return ()
    raise Refused(
        "the raw reader does not answer, so who is in the way cannot be known",
        reason="raw_reader",
        next_step="run it again when the machine is less busy",
    )


def _is_own_process(work: ActionContext, pid: int) -> bool:
    """Ourselves, and the agent, whose polls are short. A person's run may be started by the application itself."""
    return pid == os.getpid() or (work.automatic and pid == os.getppid())


def _pin_key(pinner: PinningReader) -> tuple[int, int, int]:
    return pinner.pid, pinner.lock_byte, pinner.mark


def _process_ref(one: PinningReader | HeldLock) -> ProcessRef:
    return ProcessRef(one.pid, one.command, one.command_line)
