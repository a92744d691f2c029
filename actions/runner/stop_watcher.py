"""Watches for what stops a running action besides its caller: a pause, a cancel, the end of its window.

The first two are written into our history, so one watcher in each child serves the agent's runs and the command line's
alike, and any process that may write the history can stop them. It polls four times a second; `PRAGMA data_version`,
9 microseconds, shows whether anything was written at all (https://sqlite.org/pragma.html#pragma_data_version).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from actions.model.errors import PAUSED, ActionError, Cancelled
from actions.model.stop import StopSignal
from actions.store.database import StoreUnavailable, state_store
from actions.store.pause import cancel_requested_by, pause_reason

# Seconds between two polls: a stop is requested well within a second.
POLL_SECONDS = 0.25
# Seconds that the end of a run waits for the watcher, which may be waiting for a busy history.
JOIN_TIMEOUT = 1.0


@contextmanager
def watch_for_stop(
    state: Path, run_id: int, stop: StopSignal, closing: Callable[[], ActionError | None]
) -> Iterator[None]:
    """While the block runs, request a stop when history wants one or `closing()` returns a reason."""
    over = threading.Event()
    thread = threading.Thread(
        target=_watch_store, args=(state, run_id, stop, closing, over), name="stop-watch", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(JOIN_TIMEOUT)


def _watch_store(
    state: Path, run_id: int, stop: StopSignal, closing: Callable[[], ActionError | None], over: threading.Event
) -> None:
    while not over.is_set() and not stop.is_requested:
        try:
            with state_store(state) as store:
                _poll_store(store, run_id, stop, closing, over)
        except (apsw.Error, StoreUnavailable):
            over.wait(POLL_SECONDS)  # the run itself fails at its next record; until then it can still be paused


def _poll_store(
    store: apsw.Connection,
    run_id: int,
    stop: StopSignal,
    closing: Callable[[], ActionError | None],
    over: threading.Event,
) -> None:
    seen = None
    while not over.is_set() and not stop.is_requested:
        reason = closing()
        version = store.pragma("data_version")
        if reason is None and version != seen:
            reason = requested_stop(store, run_id)
            seen = version
        if reason is not None:
            stop.request_stop(because=reason)
            return
        over.wait(POLL_SECONDS)


def requested_stop(store: apsw.Connection, run_id: int) -> ActionError | None:
    """The error that the run is to end with, if history wants it to stop; else None. Raises apsw.Error."""
    if (why := pause_reason(store)) is not None:
        return Cancelled(
            f"stopped at a safe point: actions were paused ({why})",
            reason=PAUSED,
            next_step="queuekeeper resume, then run it again",
        )
    if (who := cancel_requested_by(store, run_id)) is not None:
        return Cancelled(f"stopped at a safe point, as {who} asked", reason="asked", next_step="run it again to go on")
    return None
