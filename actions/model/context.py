"""What an action works with, handed to it by the door."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from actions.model.events import Event
from actions.model.memory import RunHistory
from actions.model.request import Option
from actions.model.stop import StopSignal
from collectors.raw_reader.client import RawReader
from collectors.target import Target


@dataclass(frozen=True, slots=True)
class ActionContext:
    """One run's surroundings. `now` is the clock (seconds since the epoch); `emit` never waits and never fails.

    `automatic`: nobody watches; what costs the application more than its budgets needs the operator's word.
    `source_trouble`: what the database's last failed check said; empty when all is well.
    `last_attempt`: when this action last ended on this database. `trust_owner`: checkpoint_vulnerable_owner.
    `window_ends`: when the window of an automatic run closes; it is asked to stop then, at its next safe point.
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
    run_history: RunHistory = RunHistory()  # noqa: RUF009 - a frozen value
    window_ends: float | None = None

    def numeric_option(self, name: str, default: float) -> float:
        """A numeric option."""
        value = self.options.get(name)
        return default if value is None else float(value)

    def emit_progress(self, message: str, done: float, total: float) -> None:
        """Say how far it is. Never call it inside a transaction."""
        self.emit(Event("progress", message, {"done": done, "total": total}))

    def emit_phase(self, name: str) -> None:
        """Say which part begins. Never call it inside a transaction of ours on the application's database."""
        self.emit(Event("phase", name))
