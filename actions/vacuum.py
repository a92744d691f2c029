"""Gives free pages back to the disk: nothing, slices of incremental_vacuum, or a full VACUUM, whichever is worth it.

Runbook: docs/runbook.md#procedure-vacuum. The choice is actions/policy/vacuum_plan.py's. A full VACUUM stops every writer
until it is done (in rollback-journal mode every reader too) and writes the live bytes twice: so it is planned with its
stall and its room, and a run that nobody watches keeps its budgets or has the operator's word.
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
from actions.maintenance.vacuum_incremental import FreedPages, free_pages_in_slices
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
from collectors.queue_profiles.schema import ProfileError

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
            "seconds", "The stall of the application that the operator accepts.", on_command_line=False
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
# Live bytes a second of a full VACUUM: predicts until this database's own rate is known (bench/maintenance.py).
DEFAULT_RATE = 120e6
AUTO_VACUUM_MODES: tuple[Literal["none", "full", "incremental"], ...] = ("none", "full", "incremental")


@dataclass(frozen=True, slots=True)
class _FileSizes:
    """Bytes of the file and of its WAL, by stat."""

    file: int
    wal: int


def plan(work: ActionContext) -> Plan:
    """Choose, and see that it may be done. Raises NothingToDo, Refused."""
    with open_read_only(work.target.path) as connection:
        pages = _read_pages(connection)
    if work.options.get("incremental") and pages.auto_vacuum != "incremental":
        raise Refused(
            f"auto_vacuum is {pages.auto_vacuum} in this database: there are no slices to take",
            reason="auto_vacuum",
            next_step="leave --incremental out; or have the application set auto_vacuum=INCREMENTAL and VACUUM once",
        )
    stays = _pages_staying_free(work, pages)
    choice = _choose_way(work, pages, stays)
    if choice.way == "nothing":
        raise NothingToDo(choice.why, reason="not_worth_it", next_step=_override_hint(pages, stays))
    if choice.way == "full":
        _guard_full_vacuum(work, pages, choice)
    else:
        growth = min(allowed_wal_growth(work), pages.file_bytes)
        require_free_space(work.target.path.parent, growth, work.target.limits.disk_reserve, "the growth of the WAL")
    return _build_plan(work, pages, stays, choice)


def run(work: ActionContext, plan: Plan) -> Done:
    """Do what was chosen. What was given back before a stop stays given back and is told."""
    sizes = _read_sizes(work)
    if plan.figures["way"] == "incremental":
        return _run_incremental(work, int(plan.figures["keep_free_pages"] or 0), sizes)
    live = int(plan.figures["live_bytes"] or 0)
    try:
        done = run_full_vacuum(work, 2 * _accepted_stall(work) if work.automatic else None)
    except apsw.FullError as error:
        raise disk_full_error(work, live) from error
    except apsw.SQLError as error:
        raise Failed(
            f"SQLite: {error}: the schema uses what only the application's SQLite has; nothing was changed",
            reason="schema",
            next_step="run VACUUM from the application itself",
        ) from error
    return _full_vacuum_done(work, done, sizes)


def _read_pages(connection: apsw.Connection) -> FilePages:
    return FilePages(
        page_size=int(connection.pragma("page_size")),
        pages=int(connection.pragma("page_count")),
        free=int(connection.pragma("freelist_count")),
        auto_vacuum=AUTO_VACUUM_MODES[int(connection.pragma("auto_vacuum"))],
    )


def _pages_staying_free(work: ActionContext, pages: FilePages) -> LastingFreePages:
    """What the agent remembers. A run that nobody watches acts on nothing less. Raises Refused."""
    span = work.numeric_option("free_for", DAY)
    if span > LONGEST_SPAN:
        raise Refused(
            f"free_for can be {LONGEST_SPAN / DAY:.0f} days at most: what was before is not remembered",
            reason="options",
            next_step="ask for less",
        )
    if span == 0:
        return LastingFreePages(pages.free, 0.0)
    found = lasting_free_pages(work.run_history.free_lows(), pages.free, work.now(), span)
    if work.automatic and found.watched < span:
        raise Refused(
            f"nobody knows how long the free pages stay free: they have been watched for {found.watched / 3600:.0f} of "
            f"{span / 3600:.0f} hours",
            reason="unwatched",
            next_step="let the agent watch on; or say in the rule for how long is enough: options: {free_for: 0s}",
        )
    return found


def _choose_way(work: ActionContext, pages: FilePages, stays: LastingFreePages) -> VacuumChoice:
    own_rate = work.run_history.figure("full_bytes_per_second")
    rate = float(own_rate) if own_rate else DEFAULT_RATE
    only_slices = bool(work.options.get("incremental"))
    return choose_vacuum(pages, stays, rate, careful=work.automatic, only_slices=only_slices)


def _guard_full_vacuum(work: ActionContext, pages: FilePages, choice: VacuumChoice) -> None:
    if not work.options.get("rowids_unused"):
        _guard_rowids(work)
    require_room(work, pages.live_bytes)
    if not work.automatic:
        return
    if choice.stall > _accepted_stall(work):
        raise Refused(
            f"the application would wait about {choice.stall:.2f} s, {_accepted_stall(work):.2f} s are allowed",
            reason="stall",
            next_step="run it by hand at a quiet time, or accept it in the rule: options: {stall: 2s}",
        )
    if work.window_ends is not None and work.now() + choice.stall > work.window_ends:
        raise Refused(
            f"a full VACUUM of about {choice.stall:.2f} s would not end before its window does",
            reason="window_too_short",
            next_step="begin it earlier in the window, or widen it (actions.windows.vacuum)",
        )
    grows, allowed = room_needed(pages.live_bytes), allowed_wal_growth(work)
    if grows > allowed and not uses_rollback_journal(work):
        raise Refused(
            f"the WAL would grow by about {grows} bytes, limits.wal_growth allows {allowed}",
            reason="wal_growth",
            next_step="run it by hand, or raise limits.wal_growth for this database",
        )


def _guard_rowids(work: ActionContext) -> None:
    try:
        with open_read_only(work.target.path) as connection:
            tables = renumbered_tables(connection, work.target)
    except ProfileError as error:
        raise Refused(
            str(error), reason="profile", next_step="mend the profile: it says whose rowids nobody uses"
        ) from error
    if tables:
        raise Refused(
            f"a full VACUUM may number rows anew that have no INTEGER PRIMARY KEY, in {join_first(tables)}",
            reason="rowids",
            next_step="if nobody uses these rowids, say so: rowids_unused in the profile, or --rowids-unused",
        )


def _accepted_stall(work: ActionContext) -> float:
    return max(work.target.limits.write_lock, work.numeric_option("stall", 0.0))


def _override_hint(pages: FilePages, stays: LastingFreePages) -> str:
    return "count what is free now with --free-for 0s" if stays.pages < pages.free else ""


def _build_plan(work: ActionContext, pages: FilePages, stays: LastingFreePages, choice: VacuumChoice) -> Plan:
    rollback = uses_rollback_journal(work)
    step = "VACUUM" if choice.way == "full" else f"incremental_vacuum of {choice.pages} pages in slices"
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
        warnings=tuple(_plan_warnings(work, pages, stays, choice, rollback=rollback)),
    )


def _plan_warnings(
    work: ActionContext, pages: FilePages, stays: LastingFreePages, choice: VacuumChoice, *, rollback: bool
) -> list[str]:
    said = []
    if stays.watched < work.numeric_option("free_for", DAY):
        said.append("how long these pages stay free is not known: no agent has watched them for that long")
    if choice.way == "full":
        said.append(f"every writer{' and reader' * rollback} waits about {choice.stall:.2f} s")
        if not rollback:
            said.append(f"the WAL grows by about {pages.live_bytes} bytes until the next checkpoint")
    return said


def _read_sizes(work: ActionContext) -> _FileSizes:
    return _FileSizes(size_or_zero(work.target.path), size_or_zero(work.target.wal))


def _run_incremental(work: ActionContext, keep: int, sizes: _FileSizes) -> Done:
    so_far = [FreedPages()]
    full = False
    with open_writable(work.target.path, LOCK_WAIT) as connection:
        page_size = int(connection.pragma("page_size"))
        wanted = max(1, int(connection.pragma("freelist_count")) - keep)
        try:
            for freed in free_pages_in_slices(work, connection, keep):
                so_far.append(so_far[-1] + freed)
                work.emit_progress("freed pages", so_far[-1].pages, wanted)
        except WalBudgetExhausted:
            full = True
        except (ActionError, apsw.Error) as error:
            early = error if isinstance(error, ActionError) else _sqlite_failure(error, so_far[-1])
            early.figures = _slice_figures(work, so_far[-1], page_size, sizes)
            early.totals = {"reclaimed_bytes": float(so_far[-1].pages * page_size)}
            raise early from error
        left = int(connection.pragma("freelist_count"))
    figures = {**_slice_figures(work, so_far[-1], page_size, sizes), "free_pages": left}
    message = _freed_message(work, so_far[-1].pages, page_size, sizes)
    if full:
        message += f"; {left - keep} more wait: the WAL has grown to its budget; checkpoint it and run this again"
    return Done(message, figures, {"reclaimed_bytes": float(so_far[-1].pages * page_size)})


def _sqlite_failure(error: apsw.Error, freed: FreedPages) -> Failed:
    return Failed(
        f"SQLite: {error}, after {freed.pages} pages",
        reason="disk_full" if isinstance(error, apsw.FullError) else type(error).__name__,
        next_step="see `queuekeeper stats` for the database's state; what was freed stays freed",
    )


def _slice_figures(work: ActionContext, freed: FreedPages, page_size: int, sizes: _FileSizes) -> Mapping[str, Figure]:
    return {
        "way": "incremental",
        "freed_pages": freed.pages,
        "freed_bytes": freed.pages * page_size,
        "slices": freed.slices,
        "longest_hold_seconds": round(freed.longest_hold, 4),
        **_size_figures(work, sizes),
    }


def _full_vacuum_done(work: ActionContext, done: FullVacuumResult, sizes: _FileSizes) -> Done:
    freed = done.pages_before - done.pages
    live = (done.pages_before - done.free_before) * done.page_size
    figures: dict[str, Figure] = {
        "way": "full",
        "freed_pages": freed,
        "freed_bytes": freed * done.page_size,
        "seconds": round(done.seconds, 4),
        "full_bytes_per_second": round(live / max(done.seconds, 0.001)),
        **_size_figures(work, sizes),
    }
    message = _freed_message(work, freed, done.page_size, sizes)
    return Done(message, figures, {"reclaimed_bytes": float(max(0, freed) * done.page_size)})


def _size_figures(work: ActionContext, before: _FileSizes) -> Mapping[str, Figure]:
    now = _read_sizes(work)
    return {
        "file_bytes_before": before.file,
        "file_bytes": now.file,
        "wal_bytes_before": before.wal,
        "wal_bytes": now.wal,
    }


def _freed_message(work: ActionContext, pages: int, page_size: int, before: _FileSizes) -> str:
    """What the file gives back appears after the next checkpoint: we never make one here."""
    later = pages > 0 and _read_sizes(work).file >= before.file
    return f"freed {pages} pages ({pages * page_size} bytes)" + "; the file shrinks at the next checkpoint" * later
