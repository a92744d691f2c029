"""Copies the write-ahead log back into the database, without ever making the application wait long.

Runbook: docs/runbook.md#queuewalbacklog. Which mode is safe depends on the *application's* SQLite: on one that has the
WAL-reset bug (3.7.0 to 3.51.2) a checkpoint by anybody that leaves a completed, un-reset WAL can make it lose committed
rows. A successful TRUNCATE leaves nothing to mis-mark, so on an owner not proved safe `auto` means one TRUNCATE, when no
reader is in its way, at most once a minute (docs/safety.md, https://sqlite.org/wal.html).

On an owner proved safe `auto` goes by the measured state of the WAL: what waits is copied passively, which holds nobody
up; one TRUNCATE follows only when the file must shrink; against a reader that pins the log nothing is tried at all.
FULL, RESTART and TRUNCATE hold the write lock while they wait for readers, limits.checkpoint_wait at most.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import apsw

from actions.model.context import Work
from actions.model.errors import GIVEN_UP_BEFORE, Blocked, Failed, NothingToDo, Refused
from actions.model.options import OptionKind
from actions.model.plan import Done, Figure, Plan
from actions.sqlite.blockers import Somebody, holding_back, named, seen_twice, traffic
from actions.sqlite.connection import writable
from actions.sqlite.disk_space import size_or_zero
from collectors.access.connection import read_only
from collectors.owner import vulnerable
from collectors.wal_state import BACKLOG_FRAMES

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
# Seconds between two tries that make writers wait: on an owner not proved safe for everybody, else for automatic runs.
TRY_AGAIN_AFTER = 60.0
# How long to wait for somebody else's checkpoint, in seconds; waiting for that holds nobody up. SQLite itself does not wait:
# https://sqlite.org/c3ref/wal_checkpoint_v2.html ("the busy handler is not invoked").
TURN_WAIT, TURN_NAP = 2.0, 0.002
# The pragma's row while another checkpoint runs.
NOT_OUR_TURN = (1, -1, -1)
# Bytes of a frame beside its page, and of the WAL's own header (https://sqlite.org/walformat.html).
FRAME_HEADER, WAL_HEADER = 24, 32


@dataclass(frozen=True, slots=True)
class Log:
    """The WAL at one moment: frames, frames already copied, bytes of one page, bytes of the file."""

    frames: int
    copied: int
    page_size: int
    file_bytes: int

    @property
    def pending(self) -> int:
        """Frames that wait to be copied."""
        return self.frames - self.copied

    @property
    def must_shrink(self) -> bool:
        """Larger than an application ever needs it that checkpoints as SQLite does by default, every 1,000 frames."""
        return self.file_bytes > WAL_HEADER + BACKLOG_FRAMES * (self.page_size + FRAME_HEADER)


@dataclass(frozen=True, slots=True)
class _InTheWay:
    """Why a checkpoint was given up, in a stable word and in a sentence; the cure; who, where that is seen."""

    reason: str
    why: str
    cure: str
    who: tuple[Somebody, ...] = ()


def plan(work: Work) -> Plan:
    """Decide the modes, in order. Raises NothingToDo, Refused, Blocked."""
    log = _look(work)
    mode = str(work.options.get("mode") or "auto")
    proved_safe = work.trust_owner or not vulnerable(work.target.owner_sqlite)
    if log.file_bytes == 0:
        _require_database(work)
        raise NothingToDo("there is no WAL, or it is empty", reason="empty", next_step="", figures=_counts(0, 0, 0))
    if not proved_safe:
        _guard_vulnerable(work, mode, log)
    modes = _modes(work, mode, log) if proved_safe else ("truncate",)
    state = _unpinned(work, log) if proved_safe and mode != "passive" else "not measured"
    stall = _predicted_stall(work, log, modes)
    _guard_stall(work, stall)
    return Plan(
        steps=tuple(f"wal_checkpoint({m.upper()}) of {log.pending} frames" for m in modes),
        figures={
            "modes": ",".join(modes),
            "wal_state": state,
            "frames": log.frames,
            "copied": log.copied,
            "backlog_bytes": log.pending * log.page_size,
            "wal_bytes": log.file_bytes,
            "owner_proved_safe": proved_safe,
        },
        stall=stall,
    )


def run(work: Work, plan: Plan) -> Done:
    """Checkpoint. Raises Blocked, naming who is in the way, when a wait for readers or writers was given up."""
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
        **_counts(*result),
        "frames_copied": max(0, before.pending - after.pending),
        "wal_bytes_before": before.file_bytes,
        "wal_bytes": after.file_bytes,
        "seconds": round(seconds, 4),
    }
    totals = {"reclaimed_bytes": float(max(0, before.file_bytes - after.file_bytes))}
    if result[0]:
        raise _given_up(work, after, result, figures, totals)
    return Done(_message(work, result, figures), figures, totals)


def _look(work: Work) -> Log:
    """The WAL now. NOOP looks without side effects (SQLite 3.51 and newer)."""
    file_bytes = size_or_zero(work.target.wal)
    if file_bytes == 0:
        return Log(0, 0, 0, 0)  # without opening: an open of ours would create the file
    with read_only(work.target.path) as connection:
        _, frames, copied = _triple(connection, "NOOP")
        page_size = connection.pragma("page_size")
    return Log(max(0, frames), max(0, copied), page_size, file_bytes)


def _require_database(work: Work) -> None:
    """What has no WAL was not opened: is it a database at all? An empty file is a valid one."""
    header = work.raw.database_header(work.target.path)
    if size_or_zero(work.target.path) > 0 and (header is None or not header.valid):
        raise Failed(
            f"{work.target.path} is no SQLite database, or it is encrypted",
            reason="not_a_database",
            next_step="check the path",
        )


def _modes(work: Work, mode: str, log: Log) -> tuple[str, ...]:
    """On an owner proved safe: what can be copied without holding anybody up is copied so first."""
    if mode == "passive":
        return ("passive",)
    passive = ("passive",) if log.pending > 0 else ()
    if mode == "auto" and not log.must_shrink:
        if not passive:
            raise NothingToDo(
                f"all {log.frames} frames are copied, and the WAL is no larger than an application needs it",
                reason="copied",
                next_step="",
                figures=_counts(0, log.frames, log.copied),
            )
        return passive
    if work.automatic and not _rested(work):
        return passive or _too_soon("no automatic run makes its writers wait again so soon")
    return (*passive, "truncate" if mode == "auto" else mode)


def _unpinned(work: Work, log: Log) -> str:
    """The measured state of the WAL. Raises Blocked, naming who, when a reader pins it: waiting would only stall writers."""
    measured = holding_back(work)
    if measured.readers:
        raise Blocked(
            f"{log.pending} of {log.frames} frames are held back by {named(measured.readers)}; nothing was tried, "
            "since waiting for a reader holds up every writer",
            reason=GIVEN_UP_BEFORE,
            next_step="let that process end its read transaction (`queuekeeper readers` shows it); "
            "--mode passive copies what it does not hold back",
            figures={**_counts(1, log.frames, log.copied), **_who(measured.readers)},
        )
    return measured.state


def _predicted_stall(work: Work, log: Log, modes: tuple[str, ...]) -> float:
    """How long writers may wait: the wait for readers, and the copying that is done under the write lock."""
    if modes == ("passive",):
        return 0.0
    copying = 0.0 if modes[0] == "passive" else log.pending * log.page_size / COPY_RATE
    return work.target.limits.checkpoint_wait + copying


def _guard_vulnerable(work: Work, mode: str, log: Log) -> None:
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
    readers = seen_twice(work)
    if readers:
        raise Blocked(
            f"a reader holds the WAL, and {whose} the WAL-reset bug, so a checkpoint that it would stop is not tried: "
            + named(readers),
            reason=GIVEN_UP_BEFORE,
            next_step="let that process end its read transaction; `queuekeeper readers` shows it",
            figures={**_counts(1, log.frames, log.copied), **_who(readers)},
        )
    if not _rested(work):
        raise Refused(
            f"{whose} the WAL-reset bug, and the last checkpoint is less than {TRY_AGAIN_AFTER:.0f} s ago",
            reason="owner_vulnerable_pause",
            next_step="wait a minute, or prove the owner with --owner-sqlite",
        )


def _rested(work: Work) -> bool:
    return work.last_attempt is None or work.now() - work.last_attempt >= TRY_AGAIN_AFTER


def _too_soon(why: str) -> tuple[str, ...]:
    raise Refused(
        f"the last checkpoint is less than {TRY_AGAIN_AFTER:.0f} s ago: {why}",
        reason="too_soon",
        next_step="give the rule a cooldown of a minute or more",
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
    """One try; a busy application checkpoints at each commit, so its turn is waited for."""
    wait = 0.0 if mode == "passive" else work.target.limits.checkpoint_wait
    deadline = time.monotonic() + TURN_WAIT
    with writable(work.target.path, wait) as connection:
        while (result := _triple(connection, mode.upper())) == NOT_OUR_TURN and time.monotonic() < deadline:
            work.stop.wait(TURN_NAP)
            work.stop.check()
    return result


def _triple(connection: apsw.Connection, mode: str) -> tuple[int, int, int]:
    """The pragma's row: busy, frames in the log, frames copied. `mode` is one of ours, never the caller's text."""
    busy, frames, copied = (
        int(str(value)) for value in connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()[0]
    )
    return busy, frames, copied


def _given_up(
    work: Work,
    log: Log,
    result: tuple[int, int, int],
    figures: Mapping[str, Figure],
    totals: Mapping[str, float],
) -> Blocked:
    """Who was in the way, as far as it shows."""
    try:
        found = _checkpointing(work) if result == NOT_OUR_TURN else _held_up(work, log)
    except Refused as error:  # it was tried all the same, and who was in the way stays unknown
        found = _InTheWay("reader", f"{log.pending} of {log.frames} frames are held back: {error}", error.next_step)
    return Blocked(
        found.why,
        reason=found.reason,
        next_step=found.cure,
        figures={**figures, **_who(found.who)},
        totals=totals,
    )


def _checkpointing(work: Work) -> _InTheWay:
    who = traffic(work).checkpointers
    by = f": {named(who)}" if who else ""
    cure = "run it again when that checkpoint has ended; `queuekeeper readers` shows it"
    return _InTheWay("checkpointer", f"another checkpoint ran for {TURN_WAIT:g} s{by}", cure, who)


def _held_up(work: Work, log: Log) -> _InTheWay:
    """One reader, one writer, or readers that take turns without a gap."""
    left = f"{log.pending} of {log.frames} frames are held back"
    end_it = "let that process end its transaction; `queuekeeper readers` shows it"
    if who := seen_twice(work):
        return _InTheWay("reader", f"{left} by {named(who)}", end_it, who)
    seen = traffic(work)
    if seen.writer is not None:
        return _InTheWay("writer", f"{seen.writer} holds the write lock all the time", end_it, (seen.writer,))
    if not seen.readers:
        unseen = "in a container share the pid namespace (docs/safety.md)"
        return _InTheWay("reader", f"{left} by nobody whom this process can see", unseen)
    wait = work.target.limits.checkpoint_wait
    why = f"somebody read the log at every moment of {wait:g} s, so it could not start over: {named(seen.readers)}"
    cure = "let reads end or leave gaps, or raise limits.checkpoint_wait to twice the longest (writers wait so long)"
    return _InTheWay("reset_starved", why, cure, seen.readers)


def _message(work: Work, result: tuple[int, int, int], figures: Mapping[str, Figure]) -> str:
    _, frames, copied = result
    shrunk = int(figures["wal_bytes_before"] or 0) - int(figures["wal_bytes"] or 0)
    words = f"copied {figures['frames_copied']} frames" + (f", gave {shrunk} bytes back" if shrunk > 0 else "")
    if frames > copied:
        with suppress(Refused):  # then it stays unsaid who
            readers = seen_twice(work)
            words += f"; {frames - copied} frames are held back by {named(readers)}" if readers else ""
    return words


def _counts(busy: int, frames: int, copied: int) -> dict[str, Figure]:
    """The numbers as SQLite's pragma gives them."""
    return {"busy": busy, "log": frames, "checkpointed": copied}


def _who(readers: tuple[Somebody, ...]) -> dict[str, Figure]:
    return {"pid": readers[0].pid, "command": readers[0].command} if readers else {}
