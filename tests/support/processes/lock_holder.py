"""Holds the write lock of a database for a share of the time until its input ends. usage: lock_holder.py DB ON_MS OFF_MS

It begins its turns by the clock, and what it held too long in one turn it holds less in the next: a late wake-up makes no
drift. It prints when it really held: pairs of monotonic seconds, a clock that all processes share.
"""

import json
import select
import sys
import time

import apsw

path, on, off = sys.argv[1], float(sys.argv[2]) / 1000, float(sys.argv[3]) / 1000
connection = apsw.Connection(path)
connection.set_busy_timeout(5000)
print("ready", flush=True)
start, held, turns = time.monotonic(), 0.0, []
while not select.select([sys.stdin], [], [], max(0.0, start + len(turns) * (on + off) - time.monotonic()))[0]:
    connection.execute("BEGIN IMMEDIATE")
    since = time.monotonic()
    time.sleep(max(0.0, (len(turns) + 1) * on - held))
    connection.execute("ROLLBACK")
    turns.append((since, time.monotonic()))
    held += turns[-1][1] - since
print(json.dumps(turns), flush=True)
