"""Asking a running action to stop. It stops at its next safe point: never inside a transaction, never half published."""

import threading

from actions.model.errors import ActionError, Cancelled, Interrupted


class StopSignal:
    """`ask` may come from another thread; the action calls `check` at its safe points. Who asks first is told."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._guard = threading.Lock()
        self._why: ActionError | None = None

    def request_stop(self, *, caller_gone: bool = False, because: ActionError | None = None) -> None:
        """Stop at the next safe point. `caller_gone`: nobody asked, the caller vanished. `because`: how the run then ends."""
        with self._guard:
            if self._why is None:
                self._why = because or (_caller_gone() if caller_gone else _stop_requested())
        self._asked.set()

    @property
    def is_requested(self) -> bool:
        """Whether to stop."""
        return self._asked.is_set()

    def wait_for_stop(self, seconds: float) -> bool:
        """Pause, but no longer than until asked to stop; whether asked."""
        return self._asked.wait(seconds)

    def raise_if_requested(self) -> None:
        """Raises Cancelled or Interrupted when asked to stop."""
        if self._asked.is_set() and self._why is not None:
            raise self._why


def _caller_gone() -> Interrupted:
    return Interrupted(
        "its caller went away; it stopped at a safe point",
        reason="caller_gone",
        next_step="run it again if needed",
    )


def _stop_requested() -> Cancelled:
    return Cancelled("stopped at a safe point, as asked", reason="asked", next_step="run it again to go on")
