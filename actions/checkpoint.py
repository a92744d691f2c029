"""Copies the write-ahead log back into the database, without making the application wait long.

Runbook: docs/runbook.md#queuewalbacklog. Which mode is safe depends on the *application's* SQLite: on one that has the
WAL-reset bug (3.7.0 to 3.51.2) a checkpoint by any process that leaves a completed, un-reset WAL can make it lose committed
rows. A successful TRUNCATE leaves nothing to mis-mark, so on an owner not proved safe `auto` means one TRUNCATE, when no
reader blocks it, at most once a minute (docs/safety.md, https://sqlite.org/wal.html).

On an owner proved safe `auto` goes by the measured state of the WAL: what waits is copied passively, which blocks no
process; one TRUNCATE follows only when the file must shrink; against a reader that pins the log nothing is tried at all.
FULL, RESTART and TRUNCATE hold the write lock while they wait for readers, limits.checkpoint_wait at most.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from actions.maintenance.checkpoint_pragma import (
    OTHER_CHECKPOINT_RUNNING,
    OTHER_CHECKPOINT_WAIT,
    count_frames,
    run_checkpoint,
)
from actions.maintenance.checkpoint_record import CheckpointRecord
from actions.maintenance.checkpoint_stall import StallPrediction, WalRates, bytes_cut_at_once, known_rates
from actions.maintenance.wal_copying import FEW_FRAMES, copy_passively
from actions.maintenance.wal_shrinking import shrink_wal
from actions.model.context import ActionContext
from actions.model.errors import GIVEN_UP_BEFORE_TRYING, ActionError, Blocked, Failed, NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.policy.cooldown import CHECKPOINT_PAUSE, may_retry_checkpoint
from actions.spec import ActionSpec
from actions.sqlite.blockers import (
    CheckpointBlocker,
    ProcessRef,
    describe_processes,
    find_checkpoint_blocker,
    find_lasting_readers,
    find_other_checkpoint,
    measure_wal_blockers,
)
from actions.sqlite.connection import open_writable
from actions.sqlite.disk_space import size_or_zero
from collectors.owner import is_vulnerable_version
from collectors.raw_reader.formats import wal_file_bytes
from collectors.wal_state import BACKLOG_FRAMES

MODES = ("auto", "passive", "full", "restart", "truncate")
SPEC = ActionSpec(
    name="checkpoint",
    summary="Copy the write-ahead log back into the database.",
    details="Unless the application's SQLite is known to be free of the WAL-reset bug, only `auto` and `truncate` are allowed.",
    options={
        "mode": ActionOption(
            "word", "The kind of checkpoint; auto chooses by the state of the log.", words=MODES, default="auto"
        ),
        "stall": ActionOption(
            "seconds", "The longest stall of the application that the operator accepts.", on_command_line=False
        ),
    },
    checks_own_space=True,
)


@dataclass(frozen=True, slots=True)
class WalStatus:
    """The WAL at one moment: frames, frames already copied, bytes of one page, bytes of the file."""

    frames: int
    copied: int
    page_size: int
    file_bytes: int

    @property
    def pending_frames(self) -> int:
        """Frames that wait to be copied."""
        return self.frames - self.copied

    @property
    def must_shrink(self) -> bool:
        """Whether the file is larger than SQLite's own checkpoints, every 1,000 frames, let it become."""
        return self.file_bytes > wal_file_bytes(BACKLOG_FRAMES, self.page_size)


def plan(context: ActionContext) -> Plan:
    """Decide the modes, in order. Raises NothingToDo, Refused, Blocked."""
    log = _read_wal_status(context)
    mode = str(context.options.get("mode") or "auto")
    proved_safe = context.trust_owner or not is_vulnerable_version(context.target.owner_sqlite)
    if log.file_bytes == 0:
        _require_database(context)
        raise NothingToDo(
            "there is no WAL, or it is empty", reason="empty", next_step="", figures=_pragma_counts(0, 0, 0)
        )
    if not proved_safe:
        _guard_vulnerable(context, mode, log)
    modes = _choose_modes(context, mode, log) if proved_safe else ("truncate",)
    state = _require_unpinned_wal(context, log) if proved_safe and mode != "passive" else "not measured"
    stall = _predict_stall(context, log, modes, known_rates(context))
    _guard_stall(context, stall.seconds)
    return Plan(
        steps=tuple(f"wal_checkpoint({m.upper()}) of {log.pending_frames} frames" for m in modes),
        figures={
            "modes": ",".join(modes),
            "wal_state": state,
            "frames": log.frames,
            "copied": log.copied,
            "backlog_bytes": log.pending_frames * log.page_size,
            "wal_bytes": log.file_bytes,
            "owner_proved_safe": proved_safe,
            "copy_under_lock_seconds": round(stall.copying, 4),
            "cut_under_lock_seconds": round(stall.cutting, 4),
        },
        stall=stall.seconds,
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Checkpoint. Raises Blocked, naming the processes, when a wait for readers or writers was given up."""
    before = _read_wal_status(context)
    record = CheckpointRecord((0, before.frames, before.copied))
    started = time.monotonic()
    try:
        for mode in str(plan.figures["modes"]).split(","):
            context.stop.raise_if_requested()
            _run_mode(context, record, mode, proved_safe=bool(plan.figures["owner_proved_safe"]))
    except ActionError as error:
        error.figures = _result_figures(context, before, record, started)
        error.totals = _reclaimed_total(error.figures)
        raise
    figures = _result_figures(context, before, record, started)
    if record.result[0]:
        raise _blocked_error(context, _read_wal_status(context), record.result, figures, _reclaimed_total(figures))
    return Done(_result_message(context, record.result, figures), figures, _reclaimed_total(figures))


def _run_mode(context: ActionContext, record: CheckpointRecord, mode: str, *, proved_safe: bool) -> None:
    if mode == "passive":
        copy_passively(context, record)
    elif mode == "truncate":
        shrink_wal(context, record, bytes_cut_at_once(context, known_rates(context)), proved_safe=proved_safe)
    else:
        with open_writable(context.target.path, context.target.limits.checkpoint_wait) as connection:
            begun = time.monotonic()
            record.result = run_checkpoint(context, connection, mode)
            record.record_hold(time.monotonic() - begun)


def _result_figures(
    context: ActionContext, before: WalStatus, record: CheckpointRecord, started: float
) -> dict[str, Figure]:
    after = _read_wal_status(context)
    return {
        **_pragma_counts(*record.result),
        "frames_copied": max(0, before.pending_frames - after.pending_frames),
        "wal_bytes_before": before.file_bytes,
        "wal_bytes": after.file_bytes,
        "seconds": round(time.monotonic() - started, 4),
        **record.time_figures(),
    }


def _reclaimed_total(figures: Mapping[str, Figure]) -> dict[str, float]:
    return {"reclaimed_bytes": float(max(0, int(figures["wal_bytes_before"] or 0) - int(figures["wal_bytes"] or 0)))}


def _read_wal_status(context: ActionContext) -> WalStatus:
    """Read the state of the WAL."""
    file_bytes = size_or_zero(context.target.wal)
    if file_bytes == 0:
        return WalStatus(0, 0, 0, 0)  # without opening: an open of ours would create the file
    return WalStatus(*count_frames(context), file_bytes)


def _require_database(context: ActionContext) -> None:
    """Raises Failed when a file without a WAL, which was not opened, is no database. An empty file is a valid one."""
    header = context.raw.read_database_header(context.target.path)
    if size_or_zero(context.target.path) > 0 and (header is None or not header.valid):
        raise Failed(
            f"{context.target.path} is no SQLite database, or it is encrypted",
            reason="not_a_database",
            next_step="check the path",
        )


def _choose_modes(context: ActionContext, mode: str, log: WalStatus) -> tuple[str, ...]:
    """Choose the modes on an owner proved safe: what can be copied without blocking a process is copied passively first."""
    if mode == "passive":
        return ("passive",)
    passive = ("passive",) if log.pending_frames > 0 else ()
    if mode == "auto" and not log.must_shrink:
        if not passive:
            raise NothingToDo(
                f"all {log.frames} frames are copied, and the WAL is no larger than an application needs it",
                reason="copied",
                next_step="",
                figures=_pragma_counts(0, log.frames, log.copied),
            )
        return passive
    if context.automatic and not _may_try_again(context):
        return passive or _refuse_too_soon("no automatic run makes its writers wait again so soon")
    return (*passive, "truncate" if mode == "auto" else mode)


def _require_unpinned_wal(context: ActionContext, log: WalStatus) -> str:
    """Measure the state of the WAL. Raises Blocked, naming the readers that pin it: waiting would only stall writers."""
    measured = measure_wal_blockers(context)
    if measured.readers:
        raise Blocked(
            f"{log.pending_frames} of {log.frames} frames are held back by {describe_processes(measured.readers)}; "
            "nothing was tried, since waiting for a reader stalls every writer",
            reason=GIVEN_UP_BEFORE_TRYING,
            next_step="let that process end its read transaction (`queuekeeper readers` shows it); "
            "--mode passive copies what it does not hold back",
            figures={**_pragma_counts(1, log.frames, log.copied), **_process_figures(measured.readers)},
        )
    return measured.state


def _predict_stall(context: ActionContext, log: WalStatus, modes: tuple[str, ...], rates: WalRates) -> StallPrediction:
    """Predict what is done under the write lock: passive checkpoints leave nearly nothing to copy there."""
    if modes == ("passive",):
        return StallPrediction()
    frames = min(log.pending_frames, FEW_FRAMES) if modes[0] == "passive" else log.pending_frames
    cut = min(log.file_bytes, bytes_cut_at_once(context, rates)) if modes[-1] == "truncate" else 0
    return StallPrediction(
        context.target.limits.checkpoint_wait, frames * log.page_size / rates.copying, cut / rates.cutting
    )


def _guard_vulnerable(context: ActionContext, mode: str, log: WalStatus) -> None:
    version = context.target.owner_sqlite
    exposure = (
        f"the application's SQLite {version} has"
        if version
        else "nothing proves that the application's SQLite is free of"
    )
    if mode in ("passive", "full", "restart"):
        raise Refused(
            f"{exposure} the WAL-reset bug: a {mode} checkpoint by us can make it lose committed rows",
            reason="owner_vulnerable",
            next_step="use --mode auto (truncates only); or, if the application runs 3.51.3 or newer, say so: "
            "--owner-sqlite 3.51.3 (owner_sqlite in the configuration)",
        )
    readers = find_lasting_readers(context)
    if readers:
        raise Blocked(
            f"a reader holds the WAL, and {exposure} the WAL-reset bug, so a checkpoint that it would stop is not tried: "
            + describe_processes(readers),
            reason=GIVEN_UP_BEFORE_TRYING,
            next_step="let that process end its read transaction; `queuekeeper readers` shows it",
            figures={**_pragma_counts(1, log.frames, log.copied), **_process_figures(readers)},
        )
    if not _may_try_again(context):
        raise Refused(
            f"{exposure} the WAL-reset bug, and the last checkpoint is less than {CHECKPOINT_PAUSE:.0f} s ago",
            reason="owner_vulnerable_pause",
            next_step="wait a minute, or prove the owner with --owner-sqlite",
        )


def _may_try_again(context: ActionContext) -> bool:
    """On an owner not proved safe this binds every trigger, else only automatic runs."""
    return may_retry_checkpoint(context.last_attempt, context.now())


def _refuse_too_soon(why: str) -> tuple[str, ...]:
    raise Refused(
        f"the last checkpoint is less than {CHECKPOINT_PAUSE:.0f} s ago: {why}",
        reason="too_soon",
        next_step="give the rule a cooldown of a minute or more",
    )


def _guard_stall(context: ActionContext, stall: float) -> None:
    """Raises Refused when an automatic run would exceed its budget without consent; a manual run has the operator's consent."""
    budget = context.target.limits.checkpoint_wait
    accepted = max(2 * budget, context.numeric_option("stall", 0.0))
    if context.automatic and stall > accepted:
        raise Refused(
            f"the application would wait about {stall:.2f} s for the copying and cutting, {accepted:.2f} s are allowed",
            reason="stall",
            next_step="start it yourself at a quiet time, prove the owner (owner_sqlite) so that most is copied without "
            "stopping the application, or accept it in the rule: options: {stall: 2s}",
        )


def _blocked_error(
    context: ActionContext,
    log: WalStatus,
    result: tuple[int, int, int],
    figures: Mapping[str, Figure],
    totals: Mapping[str, float],
) -> Blocked:
    """The error that names the blocking processes, as far as they are seen."""
    pending = f"{log.pending_frames} of {log.frames} frames are held back"
    try:
        if result == OTHER_CHECKPOINT_RUNNING:
            blocker = find_other_checkpoint(context, OTHER_CHECKPOINT_WAIT)
        else:
            blocker = find_checkpoint_blocker(context, pending)
    except Refused as error:  # the checkpoint was tried, but the blocking process is unknown
        blocker = CheckpointBlocker("reader", f"{pending}: {error}", error.next_step)
    return Blocked(
        blocker.why,
        reason=blocker.reason,
        next_step=blocker.cure,
        figures={**figures, **_process_figures(blocker.processes)},
        totals=totals,
    )


def _result_message(context: ActionContext, result: tuple[int, int, int], figures: Mapping[str, Figure]) -> str:
    _, frames, copied = result
    shrunk = int(figures["wal_bytes_before"] or 0) - int(figures["wal_bytes"] or 0)
    words = f"copied {figures['frames_copied']} frames" + (f", gave {shrunk} bytes back" if shrunk > 0 else "")
    if frames > copied:
        with suppress(Refused):  # then the message names no process
            readers = find_lasting_readers(context)
            words += f"; {frames - copied} frames are held back by {describe_processes(readers)}" if readers else ""
    return words


def _pragma_counts(busy: int, frames: int, copied: int) -> dict[str, Figure]:
    """The numbers of the pragma's row by their names in the figures."""
    return {"busy": busy, "log": frames, "checkpointed": copied}


def _process_figures(readers: tuple[ProcessRef, ...]) -> dict[str, Figure]:
    return {"pid": readers[0].pid, "command": readers[0].command} if readers else {}
