"""One run that takes rows by the queue's profile, from opening the database to what is told of it, however it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import apsw

from actions.batches.batch_loop import READ_WAIT, BatchProgress, apply_in_batches, start_progress
from actions.batches.gates import PROFILE_NEXT_STEP
from actions.model.context import ActionContext
from actions.model.errors import ActionError, Failed
from actions.model.plan import Done, Figure
from actions.sqlite.connection import open_writable
from actions.sqlite.wal_budget import WalBudgetExhausted
from collectors.queue_profiles.row_selection import RowSelection
from collectors.queue_profiles.schema import ProfileError


@dataclass(frozen=True, slots=True)
class BatchAction:
    """What is to be taken, and how it is told. `doing`: for progress, as in `requeued tasks`; `planned`: how many rows.

    `told`, `figures`, `totals`: of the result, by what was done. `foreign_keys`: the application's own are held up.
    """

    takings: Callable[[apsw.Connection], tuple[RowSelection, ...]]
    planned: int
    doing: str
    told: Callable[[BatchProgress], str]
    figures: Callable[[BatchProgress], Mapping[str, Figure]]
    totals: Callable[[BatchProgress], Mapping[str, float]]
    foreign_keys: bool = False


def limit_option(work: ActionContext) -> int | None:
    """The most rows that this run may take, by its options."""
    return None if work.options.get("limit") is None else int(work.numeric_option("limit", 0))


def older_than_option(work: ActionContext) -> float | None:
    """The option, in seconds; None when it was not given."""
    return None if work.options.get("older_than") is None else work.numeric_option("older_than", 0.0)


def run_batch_action(work: ActionContext, wanted: BatchAction) -> Done:
    """Take the rows in turns. What was done before it ends early stays done, and is told. Raises ActionError."""
    account = start_progress(work)
    try:
        early = _apply_all(work, wanted, account)
    except ActionError as error:
        error.figures, error.totals = _all_figures(wanted, account), wanted.totals(account)
        raise
    except (apsw.Error, ProfileError, UnicodeDecodeError) as error:
        raise _batch_failure(wanted, account, error) from error
    return Done(wanted.told(account) + early, _all_figures(wanted, account), wanted.totals(account))


def _apply_all(work: ActionContext, wanted: BatchAction, account: BatchProgress) -> str:
    """What is to be said of an early end; nothing when all was done."""
    try:
        with open_writable(work.target.path, READ_WAIT) as connection:
            connection.pragma("foreign_keys", wanted.foreign_keys)
            takings = wanted.takings(connection)
            for rows in apply_in_batches(
                work, connection, takings, account, limit_option(work), older_than_option(work)
            ):
                work.emit_progress(wanted.doing, rows, max(rows, wanted.planned))
    except WalBudgetExhausted:
        cure = f"queuekeeper checkpoint {work.target.name}, then run this again"
        return f"; more wait, but the WAL has grown to its budget and nobody checkpoints it: {cure}"
    return ""


def _all_figures(wanted: BatchAction, account: BatchProgress) -> Mapping[str, Figure]:
    return {**wanted.figures(account), **account.batch_figures()}


def _batch_failure(wanted: BatchAction, account: BatchProgress, error: Exception) -> Failed:
    return Failed(
        f"{'SQLite: ' * isinstance(error, apsw.Error)}{error}, after {account.applied_rows} tasks",
        reason="disk_full" if isinstance(error, apsw.FullError) else type(error).__name__,
        next_step=f"{_next_step(error)}; what was done stays done",
        figures=_all_figures(wanted, account),
        totals=wanted.totals(account),
    )


def _next_step(error: Exception) -> str:
    if isinstance(error, apsw.FullError):
        return "free space where the database lies, and run it again"
    if isinstance(error, apsw.ConstraintError):
        return "another table needs such a row: name it under `along` in the profile, or let the application delete it"
    return PROFILE_NEXT_STEP if isinstance(error, ProfileError) else "see `queuekeeper stats` for the database's state"
