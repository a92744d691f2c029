"""An application whose worker enqueues, claims and completes tasks until its input ends. usage: worker.py DB MS

Each completed task leaves one row in task_logs in the same transaction. Prints what it did as JSON: `enqueued`,
`completed`, and `lost`: completions that found the task no longer its own although the lease had not run out.
"""

import json
import select
import sys

import apsw

path, interval = sys.argv[1], float(sys.argv[2]) / 1000
connection = apsw.Connection(path)
connection.set_busy_timeout(5000)
connection.transaction_mode = "IMMEDIATE"
connection.pragma("synchronous", "normal")
connection.wal_autocheckpoint(0)  # how far the WAL grows is the test's to say
CLAIM = (
    "UPDATE task_queue SET status = 'leased', locked_by = 'live', attempts = attempts + 1, reserved_at_utc = datetime('now'),"
    " lease_until_utc = datetime('now', '+300 seconds') WHERE id = (SELECT id FROM task_queue WHERE status = 'queued'"
    " ORDER BY priority, id LIMIT 1) RETURNING id"
)
COMPLETE = "UPDATE task_queue SET status = 'completed' WHERE id = ? AND status = 'leased' AND locked_by = 'live'"
did = {"enqueued": 0, "completed": 0, "lost": 0}
while not did["enqueued"] or not select.select([sys.stdin], [], [], interval)[0]:
    with connection:
        connection.execute("INSERT INTO task_queue (type) VALUES ('live')")
    did["enqueued"] += 1
    with connection:
        claimed = connection.execute(CLAIM).get
    with connection:
        connection.execute(COMPLETE, (claimed,))
        mine = connection.changes() == 1
        if mine:
            connection.execute("INSERT INTO task_logs (task_id, level, message) VALUES (?, 'info', 'done')", (claimed,))
    did["completed" if mine else "lost"] += 1
    if did["enqueued"] == 1:
        print("ready", flush=True)
print(json.dumps(did), flush=True)
