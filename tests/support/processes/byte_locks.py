"""Holds locks on bytes of a file as another process would. usage: byte_locks.py FILE; then a line of JSON for each wish.

A wish is a list of [first byte, number, "shared" | "exclusive", "posix" | "ofd" | "flock"]: from then on it holds those and
no others.
"""

import fcntl
import json
import os
import struct
import sys

FLOCK = struct.Struct("hhqqi4x")
held: list[int] = []
for line in sys.stdin:
    while held:
        os.close(held.pop())
    for first, number, mode, kind in json.loads(line):
        held.append(os.open(sys.argv[1], os.O_RDWR))
        if kind == "flock":
            fcntl.flock(held[-1], fcntl.LOCK_EX)
        else:
            wish = FLOCK.pack(fcntl.F_RDLCK if mode == "shared" else fcntl.F_WRLCK, os.SEEK_SET, first, number, 0)
            fcntl.fcntl(held[-1], fcntl.F_OFD_SETLK if kind == "ofd" else fcntl.F_SETLK, wish)
    print("ready", flush=True)
