"""Holds the write lock of a database for a share of the time until its input ends. usage: lock_holder.py DB ON_MS OFF_MS

It begins its turns by the clock, and what it held too long in one turn it holds less in the next: a late wake-up makes no
drift. It prints what share it really held.
"""

import select
import sys
import time

import apsw

path, on, off = sys.argv[1], float(sys.argv[2]) / 1000, float(sys.argv[3]) / 1000
connection = apsw.Connection(path)
connection.set_busy_timeout(5000)
print("ready", flush=True)
start, held, turn = time.monotonic(), 0.0, 0
while not select.select([sys.stdin], [], [], max(0.0, start + turn * (on + off) - time.monotonic()))[0]:
    connection.execute("BEGIN IMMEDIATE")
    since = time.monotonic()
    time.sleep(max(0.0, (turn + 1) * on - held))
    connection.execute("ROLLBACK")
    held += time.monotonic() - since
    turn += 1
print(held / (time.monotonic() - start), flush=True)
