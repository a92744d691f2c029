"""What an action works with: the runner builds it for one run."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from actions.model.events import Event
from actions.model.plan import Figure
from actions.model.request import Option
from actions.model.stop import StopSignal
from collectors.access.file_facts import describe_holder, describe_writer
from collectors.content_loss.memory import ContentMemory
from collectors.raw_reader.client import LockTableUnseen, RawReader, RawReaderUnavailable
from collectors.target import Target


@dataclass(frozen=True, slots=True)
class FreePageMinimum:
    """The fewest free pages that were seen in one hour. `hour`: hours since the epoch, UTC."""

    hour: int
    pages: int


@dataclass(frozen=True, slots=True)
class RunHistory:
    """What our history knows of the database, read only when the action wants to know.

    `figure(name)`: the value that the newest successful run of this action recorded under that name, None without one.
    `free_lows()`: the minimum of every recorded hour, oldest first; an hour without a reading is missing.
    `content_memory()`: what the database held when it was read before.
    `backup_sequence()`: the highest sequence of a backup that was ever taken of the database, 0 without one.
    """

    figure: Callable[[str], Figure] = lambda _name: None
    free_lows: Callable[[], tuple[FreePageMinimum, ...]] = tuple
    content_memory: Callable[[], ContentMemory] = ContentMemory
    backup_sequence: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class ActionContext:
    """One run's surroundings. `now` is the clock (seconds since the epoch); `emit` never waits and never fails.

    `automatic`: no person watches; what costs the application more than its budgets needs the operator's consent.
    `source_failure`: what the database's last failed check reported; empty when all is well.
    `last_attempt`: when this action last ended on this database. `trust_owner`: checkpoint_vulnerable_owner.
    `window_ends`: when the window of an automatic run closes; it is stopped then, at its next safe point.
    """

    target: Target
    options: Mapping[str, Option]
    automatic: bool
    trust_owner: bool
    last_attempt: float | None
    source_failure: str
    raw: RawReader
    stop: StopSignal
    now: Callable[[], float]
    emit: Callable[[Event], None]
    run_history: RunHistory = RunHistory()
    window_ends: float | None = None

    def numeric_option(self, name: str, default: float) -> float:
        """The value of a numeric option, `default` where it was not given."""
        value = self.options.get(name)
        return default if value is None else float(value)

    def emit_progress(self, message: str, done: float, total: float) -> None:
        """Report how far the run is. Never call it inside a transaction."""
        self.emit(Event("progress", message, {"done": done, "total": total}))

    def emit_phase(self, name: str) -> None:
        """Report which part begins. Never call it inside a transaction of ours on the application's database."""
        self.emit(Event("phase", name))


def describe_lock_holder(context: ActionContext) -> str:
    """The process that writes or, without a writer, one that reads; always words that fit into a sentence."""
    with suppress(LockTableUnseen, RawReaderUnavailable, OSError):
        writer = describe_writer(context.raw, context.target.path)
        if writer:
            return writer
        holders = context.raw.find_held_locks(context.target.path)
        others = (holder for holder in holders if holder.pid not in (-1, os.getpid()) and holder.row.kind != "FLOCK")
        if (other := next(others, None)) is not None:
            return describe_holder(other)
    return "a process that is not visible to us"
