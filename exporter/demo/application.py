"""One process of the demo's application: `python -I -m exporter.demo.application DATABASE ROLE`.

Roles: `producer` enqueues; `worker` claims and completes; `crasher` claims a task and then waits to be killed, its number
on standard output; `reader` holds one read transaction open. All end when their input closes.
"""

import sys
import threading
import time
from pathlib import Path

import apsw

from exporter.demo.queue import open_application_connection

LEASE_SECONDS = 4
PAYLOAD = "x" * 3000

_CLAIM = """
UPDATE task_queue SET status = 'leased', locked_by = ?, reserved_at_utc = datetime('now'),
  lease_until_utc = datetime('now', ?), updated_at_utc = datetime('now')
WHERE id = (SELECT id FROM task_queue WHERE status = 'queued' AND run_after_utc <= datetime('now')
            ORDER BY priority, run_after_utc, id LIMIT 1)
RETURNING id
"""
_COMPLETE = """
UPDATE task_queue SET status = 'completed', finished_at_utc = datetime('now'), updated_at_utc = datetime('now'),
  locked_by = NULL, lease_until_utc = NULL
WHERE id = ? AND status = 'leased'
"""


def main(path: Path, role: str) -> None:
    """Play one role until the caller closes our input."""
    gone = threading.Event()
    threading.Thread(target=_set_on_input_end, args=(gone,), daemon=True).start()
    connection = open_application_connection(path)
    {"producer": enqueue_tasks, "worker": complete_tasks, "crasher": hold_one_task, "reader": hold_read_transaction}[
        role
    ](connection, gone)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.close()


def _set_on_input_end(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def enqueue_tasks(connection: apsw.Connection, stop: threading.Event) -> None:
    """Enqueue about fifteen tasks a second."""
    number = 0
    while not stop.wait(0.065):
        number += 1
        kind = "mail" if number % 3 else "report"
        connection.execute("INSERT INTO task_queue (type, payload) VALUES (?, ?)", (kind, PAYLOAD))


def complete_tasks(connection: apsw.Connection, stop: threading.Event) -> None:
    """Claim and complete tasks, one at a time."""
    while not stop.wait(0.08):
        task = claim_task(connection, "worker")
        if task is not None:
            time.sleep(0.005)
            connection.execute(_COMPLETE, (task,))


def hold_one_task(connection: apsw.Connection, stop: threading.Event) -> None:
    """Claim one task, print its number, and hold it."""
    task = None
    while task is None and not stop.wait(0.05):
        task = claim_task(connection, "crasher")
    print(task, flush=True)  # noqa: T201 the parent reads it
    stop.wait()


def hold_read_transaction(connection: apsw.Connection, stop: threading.Event) -> None:
    """Hold a read transaction open, as a slow report does: its snapshot pins the WAL."""
    connection.execute("BEGIN DEFERRED")
    connection.execute("SELECT count(*) FROM task_queue").fetchall()
    print("reading", flush=True)  # noqa: T201 the parent reads it
    stop.wait()
    connection.execute("COMMIT")


def claim_task(connection: apsw.Connection, worker: str) -> int | None:
    """Claim the next task for LEASE_SECONDS, as the queue's own workers do; return its number, None where none waits."""
    with connection:
        rows = connection.execute(_CLAIM, (worker, f"+{LEASE_SECONDS} seconds")).fetchall()
    return int(str(rows[0][0])) if rows else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
