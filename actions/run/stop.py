"""Asking a running action to stop. It stops at its next safe point: never inside a transaction, never half published."""

import threading

from actions.run.errors import Cancelled, Interrupted


class Stop:
    """`ask` may come from another thread; the action calls `check` at its safe points."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._caller_gone = False

    def ask(self, *, caller_gone: bool = False) -> None:
        """Stop at the next safe point. `caller_gone`: nobody asked, the caller vanished."""
        self._caller_gone = caller_gone
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Pause, but no longer than until asked to stop; whether asked."""
        return self._asked.wait(seconds)

    def check(self) -> None:
        """Raises Cancelled or Interrupted when asked to stop."""
        if not self._asked.is_set():
            return
        if self._caller_gone:
            raise Interrupted(
                "its caller went away; it stopped at a safe point",
                reason="caller_gone",
                next_step="run it again if needed",
            )
        raise Cancelled("stopped at a safe point, as asked", reason="asked", next_step="run it again to go on")
