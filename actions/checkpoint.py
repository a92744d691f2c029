"""Copies the write-ahead log back into the database, without making the application wait long.

Runbook: docs/runbook.md#queuewalbacklog. Which mode is safe depends on the *application's* SQLite: on one that has the
WAL-reset bug (3.7.0 to 3.51.2) a checkpoint by any process that leaves a completed, un-reset WAL can make it lose committed
rows. A successful TRUNCATE leaves nothing to mis-mark, so on an owner not proved safe `auto` means one TRUNCATE, when no
reader blocks it, at most once a minute; most of a large log is copied before it, below a read mark of ours, so that the
log is never completed without being emptied (docs/safety.md, https://sqlite.org/wal.html).

On an owner proved safe `auto` goes by the measured state of the WAL: what waits is copied passively, which blocks no
process; one TRUNCATE follows only when the file must shrink; against a reader that pins the log nothing is tried at all.
FULL, RESTART and TRUNCATE hold the write lock while they wait for readers, limits.checkpoint_wait at most.
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from actions.maintenance.checkpoint_guards import (
    WalStatus,
    guard_vulnerable,
    may_try_again,
    pragma_counts,
    process_figures,
    read_wal_status,
    require_unpinned_wal,
)
from actions.maintenance.checkpoint_pragma import (
    OTHER_CHECKPOINT_RUNNING,
    OTHER_CHECKPOINT_WAIT,
    run_checkpoint,
)
from actions.maintenance.checkpoint_record import CheckpointRecord
from actions.maintenance.checkpoint_stall import (
    MEANINGFUL_BYTES,
    StallPrediction,
    accepted_stall,
    known_rates,
    plan_shrinking,
)
from actions.maintenance.wal_copying import FEW_FRAMES, copy_passively, is_written_now
from actions.maintenance.wal_shrinking import cut_in_slices, shrink_wal
from actions.model.context import ActionContext
from actions.model.errors import GIVEN_UP_BEFORE_TRYING, ActionError, Blocked, Failed, NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.policy.cooldown import CHECKPOINT_PAUSE
from actions.spec import ActionSpec
from actions.sqlite.blockers import (
    CheckpointBlocker,
    describe_processes,
    find_checkpoint_blocker,
    find_lasting_readers,
    find_other_checkpoint,
)
from actions.sqlite.connection import open_writable
from actions.sqlite.disk_space import size_or_zero
from collectors.owner import is_vulnerable_version

MODES = ("auto", "passive", "full", "restart", "truncate")
# No checkpoint, only the unused end of a large file: what remains possible beside a reader that pins the log.
CUT_ONLY = "cut"
SPEC = ActionSpec(
    name="checkpoint",
    summary="Copy the write-ahead log back into the database.",
    details="Unless the application's SQLite is known to be free of the WAL-reset bug, only `auto` and `truncate` are allowed.",
    options={
        "mode": ActionOption(
            "word", "The kind of checkpoint; auto chooses by the state of the log.", words=MODES, default="auto"
        ),
        "stall": ActionOption(
            "seconds",
            "The longest stall of the application that you accept: a checkpoint waits for readers that long.",
            example="300ms",
            default="limits.checkpoint_wait",
        ),
    },
    checks_own_space=True,
)


def plan(context: ActionContext) -> Plan:
    """Decide the modes, in order. Raises NothingToDo, Refused, Blocked."""
    log = read_wal_status(context)
    mode = str(context.options.get("mode") or "auto")
    proved_safe = context.trust_owner or not is_vulnerable_version(context.target.owner_sqlite)
    if log.file_bytes == 0:
        _require_database(context)
        raise NothingToDo(
            "there is no WAL, or it is empty", reason="empty", next_step="", figures=pragma_counts(0, 0, 0)
        )
    modes, state = _decide_modes(context, mode, log, proved_safe=proved_safe)
    stall = _predict_stall(context, log, modes)
    _guard_stall(context, stall.seconds)
    return Plan(
        steps=tuple(_describe_step(mode, log) for mode in modes),
        figures={
            "modes": ",".join(modes),
            "wal_state": state,
            "frames": log.frames,
            "copied": log.copied,
            "backlog_bytes": log.pending_frames * log.page_size,
            "wal_bytes": log.file_bytes,
            "unused_bytes": log.unused_bytes,
            "owner_proved_safe": proved_safe,
            "copy_under_lock_seconds": round(stall.copying, 4),
            "cut_under_lock_seconds": round(stall.cutting, 4),
        },
        stall=stall.seconds,
    )


def _decide_modes(
    context: ActionContext, mode: str, log: WalStatus, *, proved_safe: bool
) -> tuple[tuple[str, ...], str]:
    """The modes, and the state of the WAL. A file whose end no frame uses is cut even where a checkpoint is not possible."""
    try:
        if not proved_safe:
            guard_vulnerable(context, mode, log)
            return ("truncate",), "not measured"
        modes = _choose_modes(context, mode, log)
        return modes, require_unpinned_wal(context, log) if mode != "passive" else "not measured"
    except (Blocked, Refused) as error:
        possible = error.reason in (GIVEN_UP_BEFORE_TRYING, "owner_vulnerable_pause", "too_soon")
        if mode not in ("auto", "truncate") or not possible or log.unused_bytes < MEANINGFUL_BYTES:
            raise
        state = "pinned" if isinstance(error, Blocked) else "not measured"
    return (CUT_ONLY,), state


def _describe_step(mode: str, log: WalStatus) -> str:
    if mode == CUT_ONLY:
        return f"cut the {log.unused_bytes} bytes that no frame uses off the WAL file, in slices"
    slices = f", a file of {log.file_bytes} bytes cut in slices" if mode == "truncate" else ""
    return f"wal_checkpoint({mode.upper()}) of {log.pending_frames} frames{slices}"


def run(context: ActionContext, plan: Plan) -> Done:
    """Checkpoint. Raises Blocked, naming the processes, when a wait for readers or writers was given up."""
    before = read_wal_status(context)
    record = CheckpointRecord((0, before.frames, before.copied))
    started = time.monotonic()
    try:
        for mode in str(plan.figures["modes"]).split(","):
            context.stop.raise_if_requested()
            _run_mode(context, record, mode, plan)
    except ActionError as error:
        error.figures = {**_result_figures(context, before, record, started), **error.figures}
        error.totals = _reclaimed_total(error.figures)
        raise
    figures = _result_figures(context, before, record, started)
    after = read_wal_status(context)
    if record.result[0] and (after.must_shrink or not record.cut.bytes):
        raise _blocked_error(context, after, record.result, figures, _reclaimed_total(figures))
    return Done(_result_message(context, record.result, figures), figures, _reclaimed_total(figures))


def _run_mode(context: ActionContext, record: CheckpointRecord, mode: str, plan: Plan) -> None:
    if mode == "passive":
        copy_passively(context, record)
    elif mode == CUT_ONLY:
        cut_in_slices(context, record, 0)
    elif mode == "truncate":
        budget = plan_shrinking(context, known_rates(context), float(plan.figures["copy_under_lock_seconds"] or 0.0))
        shrink_wal(context, record, budget, proved_safe=bool(plan.figures["owner_proved_safe"]))
    else:
        with open_writable(context.target.path, context.target.limits.checkpoint_wait) as connection:
            begun = time.monotonic()
            record.result = run_checkpoint(context, connection, mode)
            record.record_hold(time.monotonic() - begun)


def _result_figures(
    context: ActionContext, before: WalStatus, record: CheckpointRecord, started: float
) -> dict[str, Figure]:
    after = read_wal_status(context)
    return {
        **pragma_counts(*record.result),
        "frames_copied": max(0, before.pending_frames - after.pending_frames),
        "wal_bytes_before": before.file_bytes,
        "wal_bytes": 0 if record.is_emptied else after.file_bytes,
        "seconds": round(time.monotonic() - started, 4),
        **record.time_figures(),
    }


def _reclaimed_total(figures: Mapping[str, Figure]) -> dict[str, float]:
    return {"reclaimed_bytes": float(max(0, int(figures["wal_bytes_before"] or 0) - int(figures["wal_bytes"] or 0)))}


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
                figures=pragma_counts(0, log.frames, log.copied),
            )
        return passive
    if context.automatic and not may_try_again(context):
        return passive or _refuse_too_soon("no automatic run makes its writers wait again so soon")
    return (*passive, "truncate" if mode == "auto" else mode)


def _predict_stall(context: ActionContext, log: WalStatus, modes: tuple[str, ...]) -> StallPrediction:
    """Predict what is done in one hold of the write lock."""
    if modes == ("passive",):
        return StallPrediction()
    rates = known_rates(context)
    copying = _frames_under_lock(context, log, modes) * log.page_size / rates.copying if modes != (CUT_ONLY,) else 0.0
    budget = plan_shrinking(context, rates, copying)
    cutting = min(log.file_bytes, budget.at_once) / rates.cutting
    if modes == (CUT_ONLY,):
        return StallPrediction(cutting=cutting)
    if modes[-1] != "truncate":
        budget, cutting = replace(budget, wait=context.target.limits.checkpoint_wait), 0.0
    return StallPrediction(
        budget.wait, _frames_under_lock(context, log, modes) * log.page_size / rates.copying, cutting
    )


def _frames_under_lock(context: ActionContext, log: WalStatus, modes: tuple[str, ...]) -> int:
    """The frames that the last mode copies: few where most can be copied ahead (actions/maintenance/wal_copying.py)."""
    if log.pending_frames <= FEW_FRAMES:
        return log.pending_frames
    is_ahead = modes[0] == "passive" or (modes == ("truncate",) and is_written_now(context))
    return FEW_FRAMES if is_ahead else log.pending_frames


def _refuse_too_soon(why: str) -> tuple[str, ...]:
    raise Refused(
        f"the last checkpoint is less than {CHECKPOINT_PAUSE:.0f} s ago: {why}",
        reason="too_soon",
        next_step="give the rule a cooldown of a minute or more",
    )


def _guard_stall(context: ActionContext, stall: float) -> None:
    """Raises Refused when an automatic run would exceed its budget without consent; a manual run has the operator's consent."""
    accepted = accepted_stall(context)
    if context.automatic and stall > accepted:
        raise Refused(
            f"the application would wait about {stall:.2f} s for the copying and cutting, {accepted:.2f} s are allowed",
            reason="stall",
            next_step="prove the owner (owner_sqlite), or run it while the application commits: then most is copied without "
            "stopping it; start it yourself at a quiet time, or accept it in the rule: options: {stall: 2s}",
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
        figures={**figures, **process_figures(blocker.processes)},
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
