"""Two readers that take turns and overlap, so that the log is never free of readers. usage: taking_turns.py DB MS

Each read transaction lasts about MS milliseconds; the other one begins in its middle. Ends with its input.
"""

import select
import sys

import apsw

path, length = sys.argv[1], float(sys.argv[2]) / 1000
readers = [apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY) for _ in range(2)]


def begin(reader: apsw.Connection) -> None:
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()


begin(readers[0])
print("ready", flush=True)
while not select.select([sys.stdin], [], [], length / 2)[0]:
    if readers[1].in_transaction:
        readers[1].execute("ROLLBACK")
    begin(readers[1])
    readers.reverse()
