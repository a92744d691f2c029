"""PrismQ's way to work, written anew: claims one task at a time, runs it, completes it. usage: prismq_worker.py DB LEASE MS

It names itself HOST:PID. What it ran is noted in the table `ran` before the completion, in a transaction of its own, as a
task's effect in the outside world would be. Ends when its input does; prints how many tasks it completed.
"""

import os
import select
import socket
import sys

import apsw

path, lease, pause = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]) / 1000
name = f"{socket.gethostname()}:{os.getpid()}"
connection = apsw.Connection(path)
connection.set_busy_timeout(10_000)
connection.transaction_mode = "IMMEDIATE"
connection.pragma("synchronous", "normal")
CLAIM = (
    "UPDATE task_queue SET status = 'leased', locked_by = ?, reserved_at_utc = datetime('now'), lease_until_utc = "
    "datetime('now', ?), updated_at_utc = datetime('now') WHERE id = (SELECT id FROM task_queue WHERE status = 'queued' AND "
    "run_after_utc <= datetime('now') ORDER BY priority, run_after_utc, id LIMIT 1) RETURNING id"
)
COMPLETE = (
    "UPDATE task_queue SET status = 'completed', finished_at_utc = datetime('now'), updated_at_utc = datetime('now'), "
    "locked_by = NULL, lease_until_utc = NULL WHERE id = ? AND status = 'leased'"
)
completed = 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], pause)[0]:
    with connection:
        found = connection.execute(CLAIM, (name, f"+{lease} seconds")).fetchall()
    if found:
        with connection:
            connection.execute("INSERT INTO ran VALUES (?, ?)", (found[0][0], name))
        with connection:
            connection.execute(COMPLETE, (found[0][0],))
            completed += connection.changes()
print(completed, flush=True)
