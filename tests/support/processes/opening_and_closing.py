"""An application that opens the queue, commits one task and closes again, without a pause, until its input ends.

usage: opening_and_closing.py DB
"""

import select
import sys

import apsw

number = 0
while not number or not select.select([sys.stdin], [], [], 0)[0]:
    connection = apsw.Connection(sys.argv[1])
    connection.set_busy_timeout(5000)
    connection.execute("INSERT INTO task_queue (type) VALUES ('live')")
    connection.close()
    number += 1
    if number == 1:
        print("ready", flush=True)
print(number, flush=True)
