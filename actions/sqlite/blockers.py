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

from actions.model.context import Work
from actions.model.errors import Refused
from collectors.poll import take
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable
from collectors.raw_reader.wal_readers import Holder, Pinner, checkpointer, reading, writer
from collectors.wal import Wal
from collectors.wal_state import MIN_DISTANCE

# Seconds between two looks at the same reader.
LOOK_TWICE = 0.1
# Questions to a raw reader that is late.
TRIES = 3
Seen = TypeVar("Seen", Pinner, Holder)
# Looks at who comes and goes, and the seconds between two of them.
LOOKS, LOOK_EVERY = 6, 0.02


@dataclass(frozen=True, slots=True)
class Somebody:
    """One process. `command_line` is empty where only its short name is known."""

    pid: int
    command: str
    command_line: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command_line or self.command})"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """The state of the WAL as `sqlite_wal_state` names it, and the readers that pin it."""

    state: str
    readers: tuple[Somebody, ...] = ()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who came and went in LOOKS looks, most often seen first; `writer` held the write lock in all of them."""

    readers: tuple[Somebody, ...] = ()
    writer: Somebody | None = None
    checkpointers: tuple[Somebody, ...] = ()


def holding_back(work: Work) -> HeldBack:
    """The state of the WAL by the two readings that it needs. Raises Refused, and Cancelled or Interrupted between them."""
    only = frozenset({"wal"})
    first = take(work.target, None, work.now(), work.raw, only)
    work.stop.wait(MIN_DISTANCE + 0.01)
    work.stop.check()
    found = take(work.target, first, work.now(), work.raw, only).readings.get("wal")
    if not isinstance(found, Wal) or found.memory.earlier is None:
        return HeldBack("unknown", seen_twice(work))
    earlier = found.memory.earlier.pins
    pinning = [one for one in found.pinners if _mark(one) in earlier and not _is_ours(work, one.pid)]
    return HeldBack(found.state, tuple(_somebody(one) for one in pinning))


def seen_twice(work: Work) -> tuple[Somebody, ...]:
    """Who holds the WAL back at the same mark now and LOOK_TWICE later. None where nobody is shown. Raises Refused."""
    first = {_mark(pinner) for pinner in _pinners(work)}
    if not first:
        return ()
    time.sleep(LOOK_TWICE)
    return tuple(_somebody(pinner) for pinner in _pinners(work) if _mark(pinner) in first)


def traffic(work: Work) -> Traffic:
    """Who reads and writes now, whatever their marks: a log starts over only when nobody reads it at all."""
    looks = []
    for number in range(LOOKS):
        if number:
            time.sleep(LOOK_EVERY)
        looks.append(_holders(work))
    writers = _seen((one,) if (one := writer(holders)) else () for holders in looks)
    return Traffic(
        readers=tuple(_seen(reading(holders) for holders in looks)),
        writer=next((who for who, seen in writers.items() if seen == LOOKS), None),
        checkpointers=tuple(_seen((one,) if (one := checkpointer(holders)) else () for holders in looks)),
    )


def _seen(looks: Iterable[Iterable[Holder]]) -> dict[Somebody, int]:
    """In how many looks each was seen, most often first."""
    return dict(Counter(who for holders in looks for who in {_somebody(one) for one in holders}).most_common())


def named(found: Iterable[Somebody]) -> str:
    """The first three, in words."""
    return ", ".join(str(one) for one in list(found)[:3])


def _pinners(work: Work) -> tuple[Pinner, ...]:
    found = _asked(work, work.raw.pinners)
    return tuple(pinner for pinner in found if pinner.blocks_frames > 0 and not _is_ours(work, pinner.pid))


def _holders(work: Work) -> tuple[Holder, ...]:
    return tuple(holder for holder in _asked(work, work.raw.holders) if not _is_ours(work, holder.pid))


def _asked(work: Work, question: Callable[[Path], tuple[Seen, ...]]) -> tuple[Seen, ...]:
    """Nobody where this system shows no locks. A raw reader that is late on a busy machine is asked again: late is not nobody.

    Raises Refused when it stays so.
    """
    for _ in range(TRIES):
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


def _is_ours(work: Work, pid: int) -> bool:
    """Ourselves, and the agent, whose polls are short. A person's run may be started by the application itself."""
    return pid == os.getpid() or (work.automatic and pid == os.getppid())


def _mark(pinner: Pinner) -> tuple[int, int, int]:
    return pinner.pid, pinner.lock_byte, pinner.mark


def _somebody(one: Pinner | Holder) -> Somebody:
    return Somebody(one.pid, one.command, one.command_line)
