"""Commits without pause; each transaction writes three tables, so that a copy mixing two commits shows.

usage: DB MS [FRAMES]. FRAMES: its autocheckpoint, 0 for none; SQLite's default where it is not given.

Prints its longest commit in seconds at the end.
"""

import select
import sys
import time

import apsw

path, interval = sys.argv[1], float(sys.argv[2]) / 1000
connection = apsw.Connection(path)
connection.set_busy_timeout(10000)
connection.pragma("synchronous", "normal")
if len(sys.argv) > 3:
    connection.wal_autocheckpoint(int(sys.argv[3]))
connection.transaction_mode = "IMMEDIATE"
number, longest = connection.execute("SELECT n FROM meta").get, 0.0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], interval)[0]:
    number += 1
    begun = time.monotonic()
    with connection:
        connection.execute("UPDATE meta SET n = ?", (number,))
        connection.execute("INSERT INTO log VALUES (?, ?)", (number, number % 500 + 1))
        connection.execute("UPDATE item SET v = ? WHERE id = ?", (number, number % 500 + 1))
    longest = max(longest, time.monotonic() - begun)
print(longest, flush=True)
