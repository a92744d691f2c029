"""One run that takes rows by the queue's profile, from opening the database to what is told of it, however it ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import apsw

from actions.batches.batch_loop import READ_WAIT, Account, account_of, take_in_turns
from actions.batches.gates import CURE
from actions.model.context import Work
from actions.model.errors import ActionError, Failed
from actions.model.plan import Done, Figure
from actions.sqlite.connection import writable
from actions.sqlite.wal_room import WalFull
from collectors.queue_profiles.row_selection import Taking
from collectors.queue_profiles.schema import ProfileError


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be taken, and how it is told. `doing`: for progress, as in `requeued tasks`; `planned`: how many rows.

    `told`, `figures`, `totals`: of the result, by what was done. `foreign_keys`: the application's own are held up.
    """

    takings: Callable[[apsw.Connection], tuple[Taking, ...]]
    planned: int
    doing: str
    told: Callable[[Account], str]
    figures: Callable[[Account], Mapping[str, Figure]]
    totals: Callable[[Account], Mapping[str, float]]
    foreign_keys: bool = False


def limit_of(work: Work) -> int | None:
    """The most rows that this run may take, by its options."""
    return None if work.options.get("limit") is None else int(work.number("limit", 0))


def older_than_of(work: Work) -> float | None:
    """The option, in seconds; None when it was not given."""
    return None if work.options.get("older_than") is None else work.number("older_than", 0.0)


def sweep(work: Work, wanted: Sweep) -> Done:
    """Take the rows in turns. What was done before it ends early stays done, and is told. Raises ActionError."""
    account = account_of(work)
    try:
        early = _taken_until(work, wanted, account)
    except ActionError as error:
        error.figures, error.totals = _figures(wanted, account), wanted.totals(account)
        raise
    except (apsw.Error, ProfileError, UnicodeDecodeError) as error:
        raise _broken_off(wanted, account, error) from error
    return Done(wanted.told(account) + early, _figures(wanted, account), wanted.totals(account))


def _taken_until(work: Work, wanted: Sweep, account: Account) -> str:
    """What is to be said of an early end; nothing when all was done."""
    try:
        with writable(work.target.path, READ_WAIT) as connection:
            connection.pragma("foreign_keys", wanted.foreign_keys)
            takings = wanted.takings(connection)
            for rows in take_in_turns(work, connection, takings, account, limit_of(work), older_than_of(work)):
                work.progress(wanted.doing, rows, max(rows, wanted.planned))
    except WalFull:
        cure = f"queuekeeper checkpoint {work.target.name}, then run this again"
        return f"; more wait, but the WAL has grown to its budget and nobody checkpoints it: {cure}"
    return ""


def _figures(wanted: Sweep, account: Account) -> Mapping[str, Figure]:
    return {**wanted.figures(account), **account.figures()}


def _broken_off(wanted: Sweep, account: Account, error: Exception) -> Failed:
    return Failed(
        f"{'SQLite: ' * isinstance(error, apsw.Error)}{error}, after {account.rows} tasks",
        reason="disk_full" if isinstance(error, apsw.FullError) else type(error).__name__,
        next_step=f"{_cure(error)}; what was done stays done",
        figures=_figures(wanted, account),
        totals=wanted.totals(account),
    )


def _cure(error: Exception) -> str:
    if isinstance(error, apsw.FullError):
        return "free space where the database lies, and run it again"
    if isinstance(error, apsw.ConstraintError):
        return "another table needs such a row: name it under `along` in the profile, or let the application delete it"
    return CURE if isinstance(error, ProfileError) else "see `queuekeeper stats` for the database's state"
