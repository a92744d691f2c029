"""Copies the write-ahead log back into the database, without ever making the application wait long.

Runbook: docs/runbook.md#queuewalbacklog. Which mode is safe depends on the *application's* SQLite: on one that has the
WAL-reset bug (3.7.0 to 3.51.2) a checkpoint by anybody that leaves a completed, un-reset WAL can make it lose committed
rows. A successful TRUNCATE leaves nothing to mis-mark, so on an owner not proved safe `auto` means one TRUNCATE, when no
reader is in its way, at most once a minute (docs/safety.md, https://sqlite.org/wal.html).
"""

import os
import time
from dataclasses import dataclass

import apsw

from actions.run.errors import GIVEN_UP_BEFORE, Blocked, NothingToDo, Refused
from actions.run.options import OptionKind
from actions.run.plan import Done, Figure, Plan
from actions.run.work import Work
from actions.writing.connection import writable
from actions.writing.free_space import size_or_zero
from collectors.owner import vulnerable
from collectors.raw_reader.ask import LockTableUnseen, RawReaderUnavailable
from collectors.raw_reader.pinners import Pinner
from collectors.reading.connection import read_only

NAME = "checkpoint"
LONG = False
AUTOMATIC = True
MAY_BE_MISSING = False
WINDOWED = False
DESTRUCTIVE = False
MODES = ("auto", "passive", "full", "restart", "truncate")
OPTIONS = {
    "mode": OptionKind("word", f"one of {', '.join(MODES)}", words=MODES),
    "stall": OptionKind("seconds", "the stall of the application that the operator accepts, in seconds"),
}

# Bytes copied per second with the WAL in the page cache, for predicting stalls only (416 MB took 0.62 s:
# bench/README.md). A slower disk stalls longer; what was measured is in the result.
COPY_RATE = 650e6
# On an owner not proved safe: seconds between two tries.
VULNERABLE_PAUSE = 60.0
# Seconds between two looks at the same reader.
LOOK_TWICE = 0.1


@dataclass(frozen=True, slots=True)
class Log:
    """The WAL at one moment: frames, frames already copied, bytes of one page, bytes of the file."""

    frames: int
    copied: int
    page_size: int
    file_bytes: int

    @property
    def backlog_bytes(self) -> int:
        """What a checkpoint has to copy."""
        return (self.frames - self.copied) * self.page_size


def plan(work: Work) -> Plan:
    """Decide the modes, in order. Raises NothingToDo, Refused, Blocked."""
    log = _look(work)
    mode = str(work.options.get("mode") or "auto")
    proved_safe = work.trust_owner or not vulnerable(work.target.owner_sqlite)
    if log.file_bytes == 0:
        raise NothingToDo("there is no WAL, or it is empty", reason="empty", next_step="")
    if not proved_safe:
        _guard_vulnerable(work, mode)
    modes = _modes(mode, log, proved_safe=proved_safe)
    stall = _predicted_stall(work, log, modes)
    _guard_stall(work, stall)
    return Plan(
        steps=tuple(f"wal_checkpoint({m.upper()}) of {log.frames - log.copied} frames" for m in modes),
        figures={
            "modes": ",".join(modes),
            "frames": log.frames,
            "copied": log.copied,
            "backlog_bytes": log.backlog_bytes,
            "wal_bytes": log.file_bytes,
            "owner_proved_safe": proved_safe,
        },
        stall=stall,
    )


def run(work: Work, plan: Plan) -> Done:
    """Checkpoint. Raises Blocked, naming who is in the way, when frames remain that a reader or writer holds back."""
    before = _look(work)
    result = (0, before.frames, before.copied)
    seconds = 0.0
    for mode in str(plan.figures["modes"]).split(","):
        work.stop.check()
        started = time.monotonic()
        result = _checkpoint(work, mode)
        seconds += time.monotonic() - started
    after = _look(work)
    figures: dict[str, Figure] = {
        "busy": result[0],
        "log": result[1],
        "checkpointed": result[2],
        "frames_copied": max(0, before.frames - before.copied - (after.frames - after.copied)),
        "wal_bytes_before": before.file_bytes,
        "wal_bytes": after.file_bytes,
        "seconds": round(seconds, 4),
    }
    totals = {"reclaimed_bytes": float(max(0, before.file_bytes - after.file_bytes))}
    if result[0]:
        raise _blocked(work, after, figures, totals)
    shrunk = before.file_bytes - after.file_bytes
    message = f"copied {figures['frames_copied']} frames" + (f", gave {shrunk} bytes back" if shrunk > 0 else "")
    return Done(message, figures, totals)


def _look(work: Work) -> Log:
    """The WAL now. NOOP looks without side effects (SQLite 3.51 and newer)."""
    file_bytes = size_or_zero(work.target.wal)
    if file_bytes == 0:
        return Log(0, 0, 0, 0)  # without opening: an open of ours would create the file
    with read_only(work.target.path) as connection:
        _, frames, copied = _triple(connection, "NOOP")
        page_size = connection.pragma("page_size")
    return Log(max(0, frames), max(0, copied), page_size, file_bytes)


def _modes(mode: str, log: Log, *, proved_safe: bool) -> tuple[str, ...]:
    if mode != "auto":
        return (mode,)
    return ("passive", "truncate") if proved_safe and log.backlog_bytes > 0 else ("truncate",)


def _predicted_stall(work: Work, log: Log, modes: tuple[str, ...]) -> float:
    """How long writers may wait: the wait for readers, and the copying that is done under the write lock."""
    if modes == ("passive",):
        return 0.0
    copying = 0.0 if modes[0] == "passive" else log.backlog_bytes / COPY_RATE
    return work.target.limits.checkpoint_wait + copying


def _guard_vulnerable(work: Work, mode: str) -> None:
    version = work.target.owner_sqlite
    whose = (
        f"the application's SQLite {version} has"
        if version
        else "nothing proves that the application's SQLite is free of"
    )
    if mode in ("passive", "full", "restart"):
        raise Refused(
            f"{whose} the WAL-reset bug: a {mode} checkpoint by us can make it lose committed rows",
            reason="owner_vulnerable",
            next_step="use --mode auto (truncates only); or, if the application runs 3.51.3 or newer, say so: "
            "--owner-sqlite 3.51.3 (owner_sqlite in the configuration)",
        )
    readers = _readers(work)
    if readers:
        raise Blocked(
            f"a reader holds the WAL, and {whose} the WAL-reset bug, so a checkpoint that it would stop is not tried: "
            + _names(readers),
            reason=GIVEN_UP_BEFORE,
            next_step="let that process end its read transaction; `queuekeeper readers` shows it",
            figures={"pid": readers[0].pid, "command": readers[0].command},
        )
    rested = work.last_attempt is None or work.now() - work.last_attempt >= VULNERABLE_PAUSE
    if not rested:
        raise Refused(
            f"{whose} the WAL-reset bug, and the last checkpoint is less than {VULNERABLE_PAUSE:.0f} s ago",
            reason="owner_vulnerable_pause",
            next_step="wait a minute, or prove the owner with --owner-sqlite",
        )


def _guard_stall(work: Work, stall: float) -> None:
    """An automatic run keeps its budget or has the operator's word; a person consents by asking."""
    budget = work.target.limits.checkpoint_wait
    accepted = max(2 * budget, work.number("stall", 0.0))
    if work.automatic and stall > accepted:
        raise Refused(
            f"the application would wait about {stall:.2f} s for the copying, {accepted:.2f} s are allowed",
            reason="stall",
            next_step="run it by hand at a quiet time, prove the owner (owner_sqlite) so that most is copied without "
            "stopping anybody, or accept it in the rule: options: {stall: 2s}",
        )


def _checkpoint(work: Work, mode: str) -> tuple[int, int, int]:
    wait = 0.0 if mode == "passive" else work.target.limits.checkpoint_wait
    with writable(work.target.path, wait) as connection:
        return _triple(connection, mode.upper())


def _triple(connection: apsw.Connection, mode: str) -> tuple[int, int, int]:
    """The pragma's row: busy, frames in the log, frames copied. `mode` is one of ours, never the caller's text."""
    busy, frames, copied = (
        int(str(value)) for value in connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()[0]
    )
    return busy, frames, copied


def _blocked(work: Work, log: Log, figures: dict[str, Figure], totals: dict[str, float]) -> Blocked:
    readers = _readers(work)
    who = _names(readers) if readers else "no holder is visible to this process (see docs/safety.md on containers)"
    first: dict[str, Figure] = {"pid": readers[0].pid, "command": readers[0].command} if readers else {}
    return Blocked(
        f"{log.frames - log.copied} of {log.frames} frames are held back by {who}",
        reason="reader",
        next_step="let that process end its read transaction; `queuekeeper readers` shows it",
        figures={**figures, **first},
        totals=totals,
    )


def _readers(work: Work) -> tuple[Pinner, ...]:
    """Who holds the WAL back: seen twice at the same mark, so that a short read is not blamed. None where nobody is shown."""
    first = {_mark(pinner) for pinner in _seen(work)}
    if not first:
        return ()
    time.sleep(LOOK_TWICE)
    return tuple(pinner for pinner in _seen(work) if _mark(pinner) in first)


def _seen(work: Work) -> tuple[Pinner, ...]:
    try:
        found = work.raw.pinners(work.target.path)
    except (LockTableUnseen, RawReaderUnavailable):
        return ()
    ours = os.getppid()  # the agent's own polls are short
    return tuple(pinner for pinner in found if pinner.blocks_frames > 0 and pinner.pid != ours)


def _mark(pinner: Pinner) -> tuple[int, int, int]:
    return pinner.pid, pinner.lock_byte, pinner.mark


def _names(readers: tuple[Pinner, ...]) -> str:
    return ", ".join(f"pid {reader.pid} ({reader.command_line or reader.command})" for reader in readers[:3])
