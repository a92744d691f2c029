"""An application at work: commits a task every MS milliseconds until its input ends. usage: application.py DB MS"""

import select
import sys

import apsw

path, interval = sys.argv[1], float(sys.argv[2]) / 1000
connection = apsw.Connection(path)
connection.set_busy_timeout(5000)
connection.pragma("synchronous", "normal")
number = 0
while not number or not select.select([sys.stdin], [], [], interval)[0]:
    with connection:
        connection.execute("INSERT INTO task_queue (type, error_message) VALUES ('live', ?)", ("x" * 200,))
    number += 1
    if number == 1:
        print("ready", flush=True)
print(number, flush=True)
