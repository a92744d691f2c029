"""The signal to stop a running action. It stops at its next safe point: never in a transaction or half published."""

import threading

from actions.model.errors import ActionError, Cancelled, Interrupted


class StopSignal:
    """Set by any thread; the action calls `raise_if_requested` at its safe points. The first reason is the one that counts."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._lock = threading.Lock()
        self._reason: ActionError | None = None

    def request_stop(self, *, caller_gone: bool = False, because: ActionError | None = None) -> None:
        """Request a stop. `caller_gone`: because the caller is gone. `because`: the error that the run then ends with."""
        with self._lock:
            if self._reason is None:
                self._reason = because or (_caller_gone() if caller_gone else _stop_requested())
        self._requested.set()

    @property
    def is_requested(self) -> bool:
        """Whether a stop was requested."""
        return self._requested.is_set()

    def wait_for_stop(self, seconds: float) -> bool:
        """Wait `seconds`, or until a stop is requested; returns whether one is."""
        return self._requested.wait(seconds)

    def raise_if_requested(self) -> None:
        """Raise Cancelled, Interrupted or the given error when a stop was requested."""
        if self._requested.is_set() and self._reason is not None:
            raise self._reason


def _caller_gone() -> Interrupted:
    return Interrupted(
        "its caller went away; it stopped at a safe point",
        reason="caller_gone",
        next_step="run it again if needed",
    )


def _stop_requested() -> Cancelled:
    return Cancelled("stopped at a safe point, as asked", reason="asked", next_step="run it again to go on")
