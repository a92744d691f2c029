"""Reads one row of a database and keeps the read transaction open until its input ends. usage: held_reader.py DB"""

import sys

import apsw

connection = apsw.Connection(sys.argv[1], flags=apsw.SQLITE_OPEN_READONLY)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
print("ready", flush=True)
sys.stdin.read()
