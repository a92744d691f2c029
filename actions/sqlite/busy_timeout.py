"""Limits the wait for a lock of SQLite.

`interrupt()` does not end a checkpoint's wait for a reader, and a checkpoint that waits for a reader holds the write lock:
only a busy handler with a deadline bounds the application's stall (docs/safety.md).
"""

import time

import apsw

RETRY_INTERVAL = 0.002


def set_busy_timeout(connection: apsw.Connection, seconds: float) -> None:
    """Have the connection give up each wait after `seconds`; 0 gives up at once."""
    deadline = 0.0

    def wait_again(tries: int) -> bool:
        nonlocal deadline
        if tries == 0:
            deadline = time.monotonic() + seconds
        if time.monotonic() + RETRY_INTERVAL >= deadline:
            return False
        time.sleep(RETRY_INTERVAL)
        return True

    connection.set_busy_handler(wait_again)
