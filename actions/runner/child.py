"""The process of one running action: `python -I -m actions.runner.child`, the job on the first line of its input.

It stops at its next safe point when its input closes (the caller is gone) or sends `stop`, and at SIGTERM or SIGINT, which a
service manager may send to every process of the agent at once. Events go to its output. Exit status: the outcome's exit
code; 2 when the job could not be read; 75 when our history could not be used; 76 when the run did not belong to it any more.
"""

import io
import os
import signal
import sys
import threading
import time
import traceback

from pydantic import ValidationError

from actions.model.events import Event, EventPipe
from actions.model.outcome import EXIT_CODES, USAGE_ERROR, Outcome
from actions.model.stop import StopSignal
from actions.runner.execute import execute_run
from actions.runner.protocol import Job, decode_job
from actions.store.database import StoreUnavailable, state_store
from actions.store.runs import RunEnding, end_run
from collectors.raw_reader.client import RawReader

STORE_UNAVAILABLE = 75
RUN_NOT_OURS = 76


def main() -> int:
    """Execute the job that the caller sent; returns the exit status."""
    pipe = EventPipe(1)
    try:
        job = decode_job(
            io.FileIO(0, closefd=False).readline()
        )  # unbuffered: what follows the line is for `_wait_for_stop`
    except ValidationError as error:
        pipe.emit(Event("ended", f"the job cannot be read: {error.errors()[0]['msg']}", {"outcome": "failed"}))
        return USAGE_ERROR
    stop = StopSignal()
    for source in (0, _signal_pipe()):
        threading.Thread(target=_wait_for_stop, args=(stop, source), daemon=True).start()
    raw = RawReader()
    try:
        outcome = execute_run(job, raw, stop, pipe.emit, time.time)
    except StoreUnavailable as error:
        pipe.emit(Event("ended", str(error), {"outcome": "failed"}))
        return STORE_UNAVAILABLE
    except Exception as error:  # noqa: BLE001 the process boundary: a bug ends the run as failed instead of losing it
        traceback.print_exc()
        return _end_crashed_run(job, error, pipe)
    finally:
        raw.close()
    return RUN_NOT_OURS if outcome is None else EXIT_CODES[outcome]


def _signal_pipe() -> int:
    """A descriptor that becomes readable at SIGTERM or SIGINT. A handler must not take locks: it only writes to this pipe."""
    reading, writing = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: _write_signal(writing))
    return reading


def _write_signal(writing: int) -> None:
    os.write(writing, b".")


def _wait_for_stop(stop: StopSignal, source: int) -> None:
    """Wait for input, then request a stop; the end of the input is the caller's death."""
    received = os.read(source, 64)
    stop.request_stop(caller_gone=not received)


def _end_crashed_run(job: Job, error: Exception, pipe: EventPipe) -> int:
    ending = RunEnding(
        Outcome.FAILED,
        f"{type(error).__name__}: {error}",
        reason="bug",
        next_step="this is a fault of queuekeeper: please report it with the log",
    )
    if job.claim is not None:
        with state_store(job.state) as store:
            end_run(store, job.claim, ending, time.time())
    pipe.emit(Event("ended", ending.message, {"outcome": str(ending.outcome), "next_step": ending.next_step}))
    return EXIT_CODES[Outcome.FAILED]


if __name__ == "__main__":
    sys.exit(main())
