"""SQLite's own recovery, to compare with: Debian's shell has `.recover`, but its library lacks a table that it needs.

So the library is built from the source that a package of the real components ships, with that table, and the shell is
started with it. Built once, into the folder of the real
components; without compiler, shell or source there is nothing to compare with.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_SOURCE = ROOT / ".real" / "liteque" / "node_modules" / "better-sqlite3" / "deps" / "sqlite3" / "sqlite3.c"
_FOLDER = ROOT / ".real" / "recover"
_OPTIONS = (
    "ENABLE_DBPAGE_VTAB", "ENABLE_FTS5", "ENABLE_COLUMN_METADATA", "ENABLE_UNLOCK_NOTIFY", "ENABLE_DBSTAT_VTAB",
    "ENABLE_PREUPDATE_HOOK", "ENABLE_SESSION", "ENABLE_STMTVTAB", "ENABLE_EXPLAIN_COMMENTS", "ENABLE_LOAD_EXTENSION",
)  # fmt: skip


def find_recovery() -> Path | None:
    """The folder of the library with which the shell recovers; None where it cannot be had here."""
    library = _FOLDER / "libsqlite3.so.0"
    if library.exists():
        return _FOLDER
    if not _SOURCE.exists() or not shutil.which("cc") or not shutil.which("sqlite3"):
        return None
    _FOLDER.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["sqlite3", "--version"], check=True, capture_output=True, text=True).stdout.split(" ", 1)[
        1
    ]
    # The shell refuses a library of another version than its own.
    source = re.sub(r'(#define SQLITE_SOURCE_ID\s+)"[^"]*"', rf'\1"{version.strip()}"', _SOURCE.read_text("utf-8"))
    with tempfile.TemporaryDirectory(dir=_FOLDER) as build:
        (Path(build) / "sqlite3.c").write_text(source, "utf-8")
        options = [f"-DSQLITE_{option}" for option in _OPTIONS]
        command = [
            "cc",
            "-O1",
            "-w",
            "-shared",
            "-fPIC",
            *options,
            "sqlite3.c",
            "-o",
            "built",
            "-lm",
            "-ldl",
            "-lpthread",
        ]
        subprocess.run(command, check=True, cwd=build)
        (Path(build) / "built").replace(library)
    return _FOLDER


def recover_database(library: Path, damaged: Path, target: Path) -> None:
    """Recover a database with SQLite's shell into the new file `target`. It may write to the damaged one: give it a copy."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    dump = subprocess.run(["sqlite3", str(damaged), ".recover"], capture_output=True, env=environment, check=False)
    subprocess.run(["sqlite3", str(target)], input=dump.stdout, capture_output=True, env=environment, check=False)
