"""SQLite's own recovery, to compare with: Debian's shell has `.recover`, but its library lacks a table that it needs.

So the library is built from the source that a package of the real components ships, with that table, and the shell is
started with it. Built once for each version of the shell, into the folder of the real components.
"""

import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from tests.support.real.real_parts import RealPartError, report_missing, require

_REAL = Path(__file__).resolve().parents[3] / ".real"
_SOURCE = _REAL / "liteque" / "node_modules" / "better-sqlite3" / "deps" / "sqlite3" / "sqlite3.c"
_FOLDER = _REAL / "recover"
_OPTIONS = (
    "ENABLE_DBPAGE_VTAB", "ENABLE_FTS5", "ENABLE_COLUMN_METADATA", "ENABLE_UNLOCK_NOTIFY", "ENABLE_DBSTAT_VTAB",
    "ENABLE_PREUPDATE_HOOK", "ENABLE_SESSION", "ENABLE_STMTVTAB", "ENABLE_EXPLAIN_COMMENTS", "ENABLE_LOAD_EXTENSION",
)  # fmt: skip


def require_recovery() -> Path:
    """The folder of the library with which the shell recovers; without it this test is skipped, or fails where required.

    Raises RealPartError when shell and library do not recover an intact database.
    """
    shell, compiler = require("sqlite3"), require("cc")
    if not _SOURCE.exists():
        report_missing(f"SQLite's source is not at {_SOURCE}: run `make setup`")
    version = subprocess.run([shell, "--version"], check=True, capture_output=True, text=True).stdout.split(" ", 1)[1]
    library = _FOLDER / hashlib.sha256(version.encode()).hexdigest()[:16] / "libsqlite3.so.0"
    if not library.exists():
        _build_library(compiler, version.strip(), library)
        _check_recovery(library.parent)
    return library.parent


def _build_library(compiler: Path, version: str, library: Path) -> None:
    """Build it with the version of the shell in it: the shell refuses a library of another one."""
    library.parent.mkdir(parents=True, exist_ok=True)
    source = re.sub(r'(#define SQLITE_SOURCE_ID\s+)"[^"]*"', rf'\1"{version}"', _SOURCE.read_text("utf-8"))
    options = [f"-DSQLITE_{option}" for option in _OPTIONS]
    flags = ["-O1", "-w", "-shared", "-fPIC", *options, "sqlite3.c", "-o", "built", "-lm", "-ldl", "-lpthread"]
    with tempfile.TemporaryDirectory(dir=library.parent) as build:
        (Path(build) / "sqlite3.c").write_text(source, "utf-8")
        subprocess.run([compiler, *flags], check=True, cwd=build)
        (Path(build) / "built").replace(library)


def _check_recovery(library: Path) -> None:
    """A recovery that gives nothing back would let every comparison with it pass."""
    with tempfile.TemporaryDirectory() as folder:
        intact, recovered = Path(folder) / "intact.db", Path(folder) / "recovered.db"
        _run_shell(library, intact, "CREATE TABLE t AS SELECT 'is whole' AS a;")
        recover_database(library, intact, recovered)
        answer = _run_shell(library, recovered, "SELECT a FROM t;")
    if answer.stdout.strip() != b"is whole":
        (library / "libsqlite3.so.0").unlink()
        raise RealPartError(f"the shell of SQLite with the library in {library} recovers nothing: {answer.stderr!r}")


def recover_database(library: Path, damaged: Path, target: Path) -> None:
    """Recover a database with SQLite's shell into the new file `target`. It may write to the damaged one: give it a copy."""
    dump = _run_shell(library, damaged, ".recover")
    _run_shell(library, target, dump.stdout)


def _run_shell(library: Path, database: Path, script: str | bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    command = [str(require("sqlite3")), str(database)]
    words = script.encode() if isinstance(script, str) else script
    return subprocess.run(command, input=words, capture_output=True, env=environment, check=False)
