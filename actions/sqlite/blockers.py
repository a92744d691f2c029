"""Names the processes that block a checkpoint, where the kernel's lock table shows them; it never guesses.

One sample proves little: reads are short, and a writer holds the lock for a moment in each transaction. A process counts as
a blocker when it is seen again (docs/safety.md).
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

# Seconds between two samples of the same reader.
SECOND_LOOK_AFTER = 0.1
# How often a raw reader that is late is queried.
RAW_READER_TRIES = 3
LockUser = TypeVar("LockUser", PinningReader, HeldLock)
# Samples of the readers and writers that come and go, and the seconds between two of them.
TRAFFIC_SAMPLES, SAMPLE_INTERVAL = 6, 0.02


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process. `command_line` is empty where only its short name is known."""

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
    """The processes in TRAFFIC_SAMPLES samples, most often seen first; `writer` held the write lock in all of them."""

    readers: tuple[ProcessRef, ...] = ()
    writer: ProcessRef | None = None
    checkpointers: tuple[ProcessRef, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointBlocker:
    """Why a checkpoint was given up, in a stable word and in a sentence; the cure; the processes, where they are seen."""

    reason: str
    why: str
    cure: str
    processes: tuple[ProcessRef, ...] = ()


def measure_wal_blockers(context: ActionContext) -> WalBlockers:
    """Measure the state of the WAL with the two readings that it needs, and the readers that pin it.

    Raises Refused, and Cancelled or Interrupted between the readings.
    """
    only = frozenset({"wal"})
    first = poll_database(context.target, None, context.now(), context.raw, only)
    context.stop.wait_for_stop(MIN_DISTANCE + 0.01)
    context.stop.raise_if_requested()
    wal = poll_database(context.target, first, context.now(), context.raw, only).readings.get("wal")
    if not isinstance(wal, WalReading) or wal.memory.earlier is None:
        return WalBlockers("unknown", find_lasting_readers(context))
    earlier = wal.memory.earlier.pins
    pinning = [pin for pin in wal.pinners if _pin_key(pin) in earlier and not _is_own_process(context, pin.pid)]
    return WalBlockers(wal.state, tuple(_process_ref(pin) for pin in pinning))


def find_other_checkpoint(context: ActionContext, waited: float) -> CheckpointBlocker:
    """Name the process whose checkpoint still ran after `waited` seconds. Raises Refused."""
    processes = sample_wal_traffic(context).checkpointers
    names = f": {describe_processes(processes)}" if processes else ""
    cure = "run it again when that checkpoint has ended; `queuekeeper readers` shows it"
    return CheckpointBlocker("checkpointer", f"another checkpoint ran for {waited:g} s{names}", cure, processes)


def find_checkpoint_blocker(context: ActionContext, pending: str) -> CheckpointBlocker:
    """Name one reader, one writer, or readers that follow each other without a gap. Raises Refused.

    `pending` is the beginning of the sentence: how many frames are held back.
    """
    end_it = "let that process end its transaction; `queuekeeper readers` shows it"
    if readers := find_lasting_readers(context):
        return CheckpointBlocker("reader", f"{pending} by {describe_processes(readers)}", end_it, readers)
    traffic = sample_wal_traffic(context)
    if traffic.writer is not None:
        why = f"{traffic.writer} held the write lock in every sample"
        return CheckpointBlocker("writer", why, end_it, (traffic.writer,))
    if not traffic.readers:
        unseen = "in a container share the pid namespace (docs/safety.md)"
        return CheckpointBlocker("reader", f"{pending}, but this process sees no reader", unseen)
    wait, names = context.target.limits.checkpoint_wait, describe_processes(traffic.readers)
    why = f"readers followed each other without a gap for {wait:g} s, so the log could not start over: {names}"
    cure = (
        "let reads end or leave gaps; or accept a stall of twice the longest read: --stall 300ms for reads of 100 ms (in a "
        "rule: options: {stall: 300ms}; for all: limits.checkpoint_wait)"
    )
    return CheckpointBlocker("reset_starved", why, cure, traffic.readers)


def find_lasting_readers(context: ActionContext) -> tuple[ProcessRef, ...]:
    """The readers that pin the WAL at the same mark now and SECOND_LOOK_AFTER later, as far as shown. Raises Refused."""
    first = {_pin_key(pinner) for pinner in _find_pinners(context)}
    if not first:
        return ()
    time.sleep(SECOND_LOOK_AFTER)
    return tuple(_process_ref(pinner) for pinner in _find_pinners(context) if _pin_key(pinner) in first)


def sample_wal_traffic(context: ActionContext) -> WalTraffic:
    """Sample the readers and writers, at any mark: a log starts over only while no process reads it."""
    samples = []
    for number in range(TRAFFIC_SAMPLES):
        if number:
            time.sleep(SAMPLE_INTERVAL)
        samples.append(_find_holders(context))
    writers = _count_sightings((lock,) if (lock := find_write_lock(holders)) else () for holders in samples)
    return WalTraffic(
        readers=tuple(_count_sightings(find_read_locks(holders) for holders in samples)),
        writer=next((process for process, seen in writers.items() if seen == TRAFFIC_SAMPLES), None),
        checkpointers=tuple(
            _count_sightings((lock,) if (lock := find_checkpoint_lock(holders)) else () for holders in samples)
        ),
    )


def _count_sightings(samples: Iterable[Iterable[HeldLock]]) -> dict[ProcessRef, int]:
    """In how many samples each process was seen, most often first."""
    seen = (process for holders in samples for process in {_process_ref(holder) for holder in holders})
    return dict(Counter(seen).most_common())


def describe_processes(processes: Iterable[ProcessRef]) -> str:
    """The first three processes, joined for a message."""
    return ", ".join(str(process) for process in list(processes)[:3])


def _find_pinners(context: ActionContext) -> tuple[PinningReader, ...]:
    pinners = _query_raw_reader(context, context.raw.find_pinning_readers)
    return tuple(pinner for pinner in pinners if pinner.blocks_frames > 0 and not _is_own_process(context, pinner.pid))


def _find_holders(context: ActionContext) -> tuple[HeldLock, ...]:
    return tuple(
        holder
        for holder in _query_raw_reader(context, context.raw.find_held_locks)
        if not _is_own_process(context, holder.pid)
    )


def _query_raw_reader(context: ActionContext, question: Callable[[Path], tuple[LockUser, ...]]) -> tuple[LockUser, ...]:
    """The answer of the raw reader; empty where this system shows no locks.

    One that is late on a busy machine is queried again, since no answer does not mean no process. Raises Refused when it
    stays late.
    """
    for _ in range(RAW_READER_TRIES):
        with suppress(RawReaderUnavailable):
            try:
                return question(context.target.path)
            except LockTableUnseen:
                return ()
    raise Refused(
        "the raw reader does not answer, so the blocking process cannot be known",
        reason="raw_reader",
        next_step="run it again when the machine is less busy",
    )


def _is_own_process(context: ActionContext, pid: int) -> bool:
    """Whether it is this process or the agent, whose polls are short. The application itself may start a manual run."""
    return pid == os.getpid() or (context.automatic and pid == os.getppid())


def _pin_key(pinner: PinningReader) -> tuple[int, int, int]:
    return pinner.pid, pinner.lock_byte, pinner.mark


def _process_ref(user: PinningReader | HeldLock) -> ProcessRef:
    return ProcessRef(user.pid, user.command, user.command_line)
