"""Runs one action that changes rows by the queue's profile, from opening the database to the result, however the run ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import apsw

from actions.batches.apply_rows import BatchProgress, apply_in_batches, start_progress
from actions.batches.batch_loop import READ_WAIT
from actions.batches.gates import PROFILE_NEXT_STEP
from actions.model.context import ActionContext
from actions.model.errors import ActionError, Failed
from actions.model.plan import Done, Figure
from actions.sqlite.connection import open_writable
from actions.sqlite.wal_budget import WalBudgetExhausted
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.row_selection import RowSelection


@dataclass(frozen=True, slots=True)
class BatchAction:
    """What an action does to rows, and how its result is worded.

    `selections`: the rows, by the profile of the open database. `planned_rows`: how many the plan counted. `progress_text`:
    for progress events, as in `requeued tasks`. `message`, `figures`, `totals`: the result, by what was done.
    `foreign_keys`: whether the application's own foreign keys are enforced.
    """

    selections: Callable[[apsw.Connection], tuple[RowSelection, ...]]
    planned_rows: int
    progress_text: str
    message: Callable[[BatchProgress], str]
    figures: Callable[[BatchProgress], Mapping[str, Figure]]
    totals: Callable[[BatchProgress], Mapping[str, float]]
    foreign_keys: bool = False


def limit_option(context: ActionContext) -> int | None:
    """The most rows that this run may change, None without that option."""
    return None if context.options.get("limit") is None else int(context.numeric_option("limit", 0))


def older_than_option(context: ActionContext) -> float | None:
    """The least age of the rows in seconds, None without that option."""
    return None if context.options.get("older_than") is None else context.numeric_option("older_than", 0.0)


def run_batch_action(context: ActionContext, action: BatchAction) -> Done:
    """Change the rows in batches. What was committed before an early end stays, and is in the result. Raises ActionError."""
    progress = start_progress(context)
    try:
        early_end = _apply_all(context, action, progress)
    except ActionError as error:
        error.figures, error.totals = _all_figures(action, progress), action.totals(progress)
        raise
    except (apsw.Error, ProfileError, UnicodeDecodeError) as error:
        if isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError) and not progress.applied_rows:
            raise  # nothing was done, and the runner has words for it
        raise _batch_failure(action, progress, error) from error
    return Done(action.message(progress) + early_end, _all_figures(action, progress), action.totals(progress))


def _apply_all(context: ActionContext, action: BatchAction, progress: BatchProgress) -> str:
    """Change all rows; returns what the message says of an early end, an empty text when all was done."""
    limit, older_than = limit_option(context), older_than_option(context)
    try:
        with open_writable(context.target.path, READ_WAIT) as connection:
            connection.pragma("foreign_keys", action.foreign_keys)
            selections = action.selections(connection)
            for rows in apply_in_batches(context, connection, selections, progress, limit, older_than):
                context.emit_progress(action.progress_text, rows, max(rows, action.planned_rows))
    except WalBudgetExhausted:
        next_step = f"queuekeeper checkpoint {context.target.name}, then run this again"
        return f"; more remain, but the WAL has grown to its budget and no process checkpoints it: {next_step}"
    return ""


def _all_figures(action: BatchAction, progress: BatchProgress) -> Mapping[str, Figure]:
    return {**action.figures(progress), **progress.batch_figures()}


def _batch_failure(action: BatchAction, progress: BatchProgress, error: Exception) -> Failed:
    return Failed(
        f"{'SQLite: ' * isinstance(error, apsw.Error)}{error}, after {progress.applied_rows} tasks",
        reason="disk_full" if isinstance(error, apsw.FullError) else type(error).__name__,
        next_step=f"{_next_step(error)}; what was done stays done",
        figures=_all_figures(action, progress),
        totals=action.totals(progress),
    )


def _next_step(error: Exception) -> str:
    if isinstance(error, apsw.FullError):
        return "free space on the disk of the database, and run it again"
    if isinstance(error, apsw.ConstraintError):
        return "another table needs such a row: name it under `along` in the profile, or let the application delete it"
    return PROFILE_NEXT_STEP if isinstance(error, ProfileError) else "see `queuekeeper stats` for the database's state"
