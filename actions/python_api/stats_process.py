"""Reads the sizes of one database in a process of its own: `python -I -m actions.python_api.stats_process PATH`.

The process that asks may be the application, which has the file open, perhaps with another copy of SQLite: opening it there
once more and closing it would take the application's locks away (docs/safety.md). Prints one JSON object.
"""

import json
import os
import sys
import time
from pathlib import Path

from collectors.poll import poll_database
from collectors.raw_reader.client import RawReader
from collectors.storage import StorageReading
from collectors.target import Target


def main(path: Path) -> int:
    """Print page_size, pages, free_pages, wal, wal_bytes; or `trouble` in a sentence."""
    target = Target(path.stem, path)
    with RawReader() as raw:
        snapshot = poll_database(target, None, time.time(), raw, only=frozenset({"storage"}))
        header = raw.read_database_header(path)
    found = snapshot.readings.get("storage")
    if not isinstance(found, StorageReading) or header is None or not header.valid:
        return _say({"trouble": snapshot.message or f"{path} is no SQLite database, or it is encrypted"})
    pages, free = found.pages, found.free_pages
    if pages is None and found.wal_size == 0:  # nobody has it open: then the file alone is the database
        pages, free = found.size // header.page_size, header.free_pages
    if pages is None:
        return _say({"trouble": snapshot.message})
    return _say(
        {
            "page_size": header.page_size,
            "pages": pages,
            "free_pages": free,
            "wal": header.wal,
            "wal_bytes": found.wal_size,
        }
    )


def _say(what: dict[str, object]) -> int:
    os.write(1, json.dumps(what).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
