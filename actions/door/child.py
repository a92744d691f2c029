"""The process of one running action: `python -I -m actions.door.child`, the job on the first line of its input.

It stops at its next safe point when its input closes (the caller is gone) or says `stop`. Events go to its output.
Exit status: the outcome's exit code; 75 when our history could not be used; 76 when the run was not its own any more.
"""

import io
import os
import sys
import threading
import time
import traceback

from actions.door.job import Job, decode
from actions.door.perform import perform
from actions.history.runs import Ending, end
from actions.history.store import StoreUnavailable, history
from actions.run.events import Event, EventPipe
from actions.run.outcome import EXIT_CODES, Outcome
from actions.run.stop import Stop
from collectors.raw_reader.ask import RawReader

STORE_UNAVAILABLE = 75
NOT_OURS = 76


def main() -> int:
    """Perform the job that the caller sent."""
    job = decode(io.FileIO(0, closefd=False).readline())  # unbuffered: what follows the line is `_listen`'s
    pipe = EventPipe(1)
    stop = Stop()
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()
    raw = RawReader()
    try:
        outcome = perform(job, raw, stop, pipe.emit, time.time)
    except StoreUnavailable as error:
        pipe.emit(Event("ended", str(error), {"outcome": "failed"}))
        return STORE_UNAVAILABLE
    except Exception as error:  # noqa: BLE001 the process boundary: a bug ends the run as failed instead of losing it
        traceback.print_exc()
        return _end_broken(job, error)
    finally:
        raw.close()
    return NOT_OURS if outcome is None else EXIT_CODES[outcome]


def _listen(stop: Stop) -> None:
    """Wait for the caller's word; an empty one is its death."""
    word = os.read(0, 64)
    stop.ask(caller_gone=not word)


def _end_broken(job: Job, error: Exception) -> int:
    ending = Ending(
        Outcome.FAILED,
        f"{type(error).__name__}: {error}",
        reason="bug",
        next_step="this is a fault of queuekeeper: please report it with the log",
    )
    if job.claim is not None:
        with history(job.state) as store:
            end(store, job.claim, ending, time.time())
    return EXIT_CODES[Outcome.FAILED]


if __name__ == "__main__":
    sys.exit(main())
