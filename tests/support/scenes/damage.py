"""Changes bytes of one page of a database file, by plain file I/O: what a bad disk does. A process of its own, since closing
the file would drop the locks of a process that has connections to it.
"""

import subprocess
import sys
from pathlib import Path

import apsw


def leaf_of(owner: apsw.Connection, name: str) -> int:
    """The number of a page with entries of this table or index, in the database file (dbstat)."""
    sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path LIMIT 1"
    owner.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return int(owner.execute(sql, (name,)).get)


def damage(path: Path, page: int, old: bytes = b"", new: bytes = b"", size: int = 4096) -> None:
    """Replace the last `old` in the page by `new` of the same length; without them, the whole page by rubbish.

    The first may be a remains of what was there before: cells fill a page from its end.
    """
    command = [sys.executable, __file__, str(path), str((page - 1) * size), str(size), old.hex(), new.hex()]
    subprocess.run(command, check=True)


def _main(path: str, offset: str, size: str, old: str, new: str) -> None:
    with Path(path).open("r+b") as file:
        file.seek(int(offset))
        before = file.read(int(size))
        wrong = bytes.fromhex(old)
        if wrong and wrong not in before:
            sys.exit(f"there is no {wrong!r} on the page")
        head, _, tail = before.rpartition(wrong) if wrong else (b"", b"", b"")
        after = head + bytes.fromhex(new) + tail if wrong else bytes(255 - one for one in before)
        file.seek(int(offset))
        file.write(after)


if __name__ == "__main__":
    _main(*sys.argv[1:])
