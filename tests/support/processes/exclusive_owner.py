"""Holds a database exclusively until its input ends. usage: exclusive_owner.py DB (transaction|mode)"""

import sys

import apsw

connection = apsw.Connection(sys.argv[1])
if sys.argv[2] == "mode":
    connection.pragma("locking_mode", "exclusive")
    connection.execute("INSERT INTO task_queue (type) VALUES ('held')")
else:
    connection.execute("BEGIN EXCLUSIVE")
print("ready", flush=True)
sys.stdin.read()
