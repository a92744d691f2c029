"""Gives free pages back to the disk: none, by batches of incremental_vacuum, or by a full VACUUM, as it is worth it.

Runbook: docs/runbook.md#procedure-vacuum. The choice is actions/policy/vacuum_plan.py's. A full VACUUM stops every writer
until it is done (in rollback-journal mode every reader too) and writes the live bytes twice: so its plan predicts the stall
and the room, and an automatic run keeps its budgets unless the operator accepted more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import apsw

from actions.batches.batch_loop import LOCK_WAIT
from actions.maintenance.rowids import renumbered_tables
from actions.maintenance.vacuum_full import (
    FullVacuumResult,
    disk_full_error,
    require_room,
    room_needed,
    run_full_vacuum,
)
from actions.maintenance.vacuum_incremental import FreedPages, free_pages_in_batches
from actions.model.context import ActionContext
from actions.model.errors import ActionError, Failed, NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.policy.vacuum_plan import FilePages, LastingFreePages, VacuumChoice, choose_vacuum, lasting_free_pages
from actions.spec import ActionSpec
from actions.sqlite.connection import open_writable, uses_rollback_journal
from actions.sqlite.disk_space import require_free_space, size_or_zero
from actions.sqlite.naming import join_first
from actions.sqlite.wal_budget import WalBudgetExhausted, allowed_wal_growth
from collectors.access.connection import open_read_only
from collectors.queue_profiles.errors import ProfileError

SPEC = ActionSpec(
    name="vacuum",
    summary="Give free pages back to the disk, in the way that disturbs the application least.",
    caution="A full VACUUM stops every writer until it is done.",
    details="A full VACUUM stops every writer until it is done: --dry-run prints for how long and what it gives back.",
    options={
        "incremental": ActionOption("flag", "Only incremental_vacuum in short transactions, never a full VACUUM."),
        "free_for": ActionOption(
            "seconds", "Count only pages that have been free for this long; 0s counts all.", example="24h"
        ),
        "stall": ActionOption(
            "seconds", "The longest stall of the application that the operator accepts.", on_command_line=False
        ),
        "rowids_unused": ActionOption(
            "flag",
            "You confirm that no program uses the rowids of tables without INTEGER PRIMARY KEY.",
            by_person=True,
        ),
    },
    lane="long",
    needs_window=True,
    needs_fresh_backup=True,
    checks_own_space=True,
)

DAY = 86400.0
LONGEST_SPAN = 7 * DAY
# Live bytes a second of a full VACUUM, for the prediction until this database's own rate is known (bench/maintenance.py).
DEFAULT_RATE = 120e6
AUTO_VACUUM_MODES: tuple[Literal["none", "full", "incremental"], ...] = ("none", "full", "incremental")


@dataclass(frozen=True, slots=True)
class _FileSizes:
    """Bytes of the file and of its WAL, by stat."""

    file: int
    wal: int


def plan(context: ActionContext) -> Plan:
    """Choose the kind of vacuum and check its guards. Raises NothingToDo, Refused."""
    with open_read_only(context.target.path) as connection:
        pages = _read_pages(connection)
    if context.options.get("incremental") and pages.auto_vacuum != "incremental":
        raise Refused(
            f"auto_vacuum is {pages.auto_vacuum} in this database: incremental_vacuum is not possible",
            reason="auto_vacuum",
            next_step="leave --incremental out; or have the application set auto_vacuum=INCREMENTAL and VACUUM once",
        )
    stays = _pages_staying_free(context, pages)
    choice = _choose_way(context, pages, stays)
    if choice.way == "nothing":
        raise NothingToDo(choice.why, reason="not_worth_it", next_step=_override_hint(pages, stays))
    if choice.way == "full":
        _guard_full_vacuum(context, pages, choice)
    else:
        growth = min(allowed_wal_growth(context), pages.file_bytes)
        require_free_space(
            context.target.path.parent, growth, context.target.limits.disk_reserve, "the growth of the WAL"
        )
    return _build_plan(context, pages, stays, choice)


def run(context: ActionContext, plan: Plan) -> Done:
    """Run the chosen vacuum. Pages that were freed before a stop stay freed, and are in the result."""
    sizes = _read_sizes(context)
    if plan.figures["way"] == "incremental":
        return _run_incremental(context, int(plan.figures["keep_free_pages"] or 0), sizes)
    live = int(plan.figures["live_bytes"] or 0)
    try:
        result = run_full_vacuum(context, 2 * _accepted_stall(context) if context.automatic else None)
    except apsw.FullError as error:
        raise disk_full_error(context, live) from error
    except apsw.SQLError as error:
        raise Failed(
            f"SQLite: {error}: the schema uses an extension that only the application's SQLite has; nothing was changed",
            reason="schema",
            next_step="run VACUUM from the application itself",
        ) from error
    return _full_vacuum_done(context, result, sizes)


def _read_pages(connection: apsw.Connection) -> FilePages:
    return FilePages(
        page_size=int(connection.pragma("page_size")),
        pages=int(connection.pragma("page_count")),
        free=int(connection.pragma("freelist_count")),
        auto_vacuum=AUTO_VACUUM_MODES[int(connection.pragma("auto_vacuum"))],
    )


def _pages_staying_free(context: ActionContext, pages: FilePages) -> LastingFreePages:
    """The pages that the agent saw stay free. An automatic run is refused without that knowledge. Raises Refused."""
    span = context.numeric_option("free_for", DAY)
    if span > LONGEST_SPAN:
        raise Refused(
            f"free_for can be {LONGEST_SPAN / DAY:.0f} days at most: older values are not stored",
            reason="options",
            next_step="give a shorter time",
        )
    if span == 0:
        return LastingFreePages(pages.free, 0.0)
    lasting = lasting_free_pages(context.run_history.free_lows(), pages.free, context.now(), span)
    if context.automatic and lasting.watched < span:
        raise Refused(
            f"it is not known how long the free pages stay free: they have been watched for {lasting.watched / 3600:.0f} of "
            f"{span / 3600:.0f} hours",
            reason="unwatched",
            next_step="let the agent go on watching; or set in the rule how long is enough: options: {free_for: 0s}",
        )
    return lasting


def _choose_way(context: ActionContext, pages: FilePages, stays: LastingFreePages) -> VacuumChoice:
    own_rate = context.run_history.figure("full_bytes_per_second")
    rate = float(own_rate) if own_rate else DEFAULT_RATE
    only_incremental = bool(context.options.get("incremental"))
    return choose_vacuum(pages, stays, rate, careful=context.automatic, only_incremental=only_incremental)


def _guard_full_vacuum(context: ActionContext, pages: FilePages, choice: VacuumChoice) -> None:
    if not context.options.get("rowids_unused"):
        _guard_rowids(context)
    require_room(context, pages.live_bytes)
    if not context.automatic:
        return
    if choice.stall > _accepted_stall(context):
        raise Refused(
            f"the application would wait about {choice.stall:.2f} s, {_accepted_stall(context):.2f} s are allowed",
            reason="stall",
            next_step="run it by hand at a quiet time, or accept it in the rule: options: {stall: 2s}",
        )
    if context.window_ends is not None and context.now() + choice.stall > context.window_ends:
        raise Refused(
            f"a full VACUUM of about {choice.stall:.2f} s would not end before its window does",
            reason="window_too_short",
            next_step="begin it earlier in the window, or widen it (actions.windows.vacuum)",
        )
    grows, allowed = room_needed(pages.live_bytes), allowed_wal_growth(context)
    if grows > allowed and not uses_rollback_journal(context):
        raise Refused(
            f"the WAL would grow by about {grows} bytes, limits.wal_growth allows {allowed}",
            reason="wal_growth",
            next_step="run it by hand, or raise limits.wal_growth for this database",
        )


def _guard_rowids(context: ActionContext) -> None:
    try:
        with open_read_only(context.target.path) as connection:
            tables = renumbered_tables(connection, context.target)
    except ProfileError as error:
        raise Refused(
            str(error), reason="profile", next_step="correct the profile: it declares which rowids are unused"
        ) from error
    if tables:
        raise Refused(
            f"a full VACUUM may change the rowids of tables without INTEGER PRIMARY KEY: {join_first(tables)}",
            reason="rowids",
            next_step="if no process uses these rowids, declare it: rowids_unused in the profile, or --rowids-unused",
        )


def _accepted_stall(context: ActionContext) -> float:
    return max(context.target.limits.write_lock, context.numeric_option("stall", 0.0))


def _override_hint(pages: FilePages, stays: LastingFreePages) -> str:
    return "count what is free now with --free-for 0s" if stays.pages < pages.free else ""


def _build_plan(context: ActionContext, pages: FilePages, stays: LastingFreePages, choice: VacuumChoice) -> Plan:
    rollback = uses_rollback_journal(context)
    step = "VACUUM" if choice.way == "full" else f"incremental_vacuum of {choice.pages} pages in batches"
    return Plan(
        steps=(f"{step}: {choice.why}",),
        figures={
            "way": choice.way,
            "gives_back_bytes": choice.gives_back,
            "live_bytes": pages.live_bytes,
            "pages": pages.pages,
            "free_pages": pages.free,
            "keep_free_pages": pages.free - choice.pages if choice.way == "incremental" else 0,
            "watched_seconds": round(stays.watched),
            "rollback_journal": rollback,
        },
        stall=choice.stall,
        warnings=tuple(_plan_warnings(context, pages, stays, choice, rollback=rollback)),
    )


def _plan_warnings(
    context: ActionContext, pages: FilePages, stays: LastingFreePages, choice: VacuumChoice, *, rollback: bool
) -> list[str]:
    warnings = []
    if stays.watched < context.numeric_option("free_for", DAY):
        warnings.append("how long these pages stay free is not known: no agent has watched them for so long")
    if choice.way == "full":
        warnings.append(f"every writer{' and reader' * rollback} waits about {choice.stall:.2f} s")
        if not rollback:
            warnings.append(f"the WAL grows by about {pages.live_bytes} bytes until the next checkpoint")
    return warnings


def _read_sizes(context: ActionContext) -> _FileSizes:
    return _FileSizes(size_or_zero(context.target.path), size_or_zero(context.target.wal))


def _run_incremental(context: ActionContext, keep: int, sizes: _FileSizes) -> Done:
    freed, is_wal_full = FreedPages(), False
    with open_writable(context.target.path, LOCK_WAIT) as connection:
        page_size = int(connection.pragma("page_size"))
        wanted = max(1, int(connection.pragma("freelist_count")) - keep)
        try:
            for part in free_pages_in_batches(context, connection, keep):
                freed += part
                context.emit_progress("freed pages", freed.pages, wanted)
        except WalBudgetExhausted:
            is_wal_full = True
        except (ActionError, apsw.Error) as error:
            early = error if isinstance(error, ActionError) else _sqlite_failure(error, freed)
            early.figures = _incremental_figures(context, freed, page_size, sizes)
            early.totals = {"reclaimed_bytes": float(freed.pages * page_size)}
            raise early from error
        free_pages = int(connection.pragma("freelist_count"))
    figures = {**_incremental_figures(context, freed, page_size, sizes), "free_pages": free_pages}
    message = _freed_message(context, freed.pages, page_size, sizes)
    if is_wal_full:
        message += (
            f"; {free_pages - keep} more remain: the WAL has grown to its budget; checkpoint it and run this again"
        )
    return Done(message, figures, {"reclaimed_bytes": float(freed.pages * page_size)})


def _sqlite_failure(error: apsw.Error, freed: FreedPages) -> Failed:
    return Failed(
        f"SQLite: {error}, after {freed.pages} pages",
        reason="disk_full" if isinstance(error, apsw.FullError) else type(error).__name__,
        next_step="see `queuekeeper stats` for the database's state; what was freed stays freed",
    )


def _incremental_figures(
    context: ActionContext, freed: FreedPages, page_size: int, sizes: _FileSizes
) -> Mapping[str, Figure]:
    return {
        "way": "incremental",
        "freed_pages": freed.pages,
        "freed_bytes": freed.pages * page_size,
        "slices": freed.batches,
        "longest_hold_seconds": round(freed.longest_hold, 4),
        **_size_figures(context, sizes),
    }


def _full_vacuum_done(context: ActionContext, result: FullVacuumResult, sizes: _FileSizes) -> Done:
    freed = result.pages_before - result.pages
    live = (result.pages_before - result.free_before) * result.page_size
    figures: dict[str, Figure] = {
        "way": "full",
        "freed_pages": freed,
        "freed_bytes": freed * result.page_size,
        "seconds": round(result.seconds, 4),
        "full_bytes_per_second": round(live / max(result.seconds, 0.001)),
        **_size_figures(context, sizes),
    }
    message = _freed_message(context, freed, result.page_size, sizes)
    return Done(message, figures, {"reclaimed_bytes": float(max(0, freed) * result.page_size)})


def _size_figures(context: ActionContext, before: _FileSizes) -> Mapping[str, Figure]:
    now = _read_sizes(context)
    return {
        "file_bytes_before": before.file,
        "file_bytes": now.file,
        "wal_bytes_before": before.wal,
        "wal_bytes": now.wal,
    }


def _freed_message(context: ActionContext, pages: int, page_size: int, before: _FileSizes) -> str:
    """The message of what was freed. The file shrinks at the next checkpoint, which this action never runs."""
    shrinks_later = pages > 0 and _read_sizes(context).file >= before.file
    return (
        f"freed {pages} pages ({pages * page_size} bytes)" + "; the file shrinks at the next checkpoint" * shrinks_later
    )
