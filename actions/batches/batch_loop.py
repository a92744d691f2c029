"""Takes many rows beside a live application: turn after turn with the write lock, each short, with room for the others.

Between two turns nothing is held and everything is whole: there we look for more rows, rest, wait for the WAL to be
copied, and stop when asked to.
"""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apsw

from actions.batches.apply_rows import Taken, take, take_ranges
from actions.batches.select_rows import Found, found_rows
from actions.model.context import Work
from actions.model.errors import ActionError, Blocked, Locked
from actions.model.lock_holders import in_the_way
from actions.model.plan import Figure
from actions.sqlite.busy_timeout import wait_at_most
from actions.sqlite.connection import without_syncs
from actions.sqlite.pacing import LatencyGuard, percentile
from actions.sqlite.wal_room import WalRoom
from actions.sqlite.write_transaction import Turn, write_turn
from collectors.queue_profiles.authorizer import OwnRules, own_rules
from collectors.queue_profiles.row_changes import To
from collectors.queue_profiles.row_selection import Taking

# How long to go on asking for the write lock, in seconds: before anything was done, and when a part was.
PATIENCE, PATIENCE_AMID = 2.0, 30.0
# How long to wait for it at a time, and then to give way, in seconds: growing, up to the longest.
LOCK_WAIT, FIRST_YIELD, LONGEST_YIELD = 0.05, 0.02, 0.5
# Share of the longest hold that a commit may wait for the readers of a rollback-journal database.
COMMIT_WAIT = 0.5
# How long a look waits for a commit there, in seconds: that holds nobody up.
READ_WAIT = 2.0
# KiB of pages kept in memory: a scattered index is read once, not for every row.
CACHE = 32 * 1024


@dataclass(slots=True)
class Account:
    """What was done until now. `changed`: rows that were found and had changed when they were to be taken."""

    guard: LatencyGuard
    room: WalRoom
    to: Counter[To] = field(default_factory=Counter)
    changed: int = 0

    @property
    def rows(self) -> int:
        """How many rows were taken."""
        return self.to.total()

    def figures(self) -> Mapping[str, Figure]:
        """How it went beside the others; times in seconds."""
        holds = self.guard.holds
        return {
            "changed_meanwhile": self.changed,
            "chunks": len(holds),
            "longest_hold_seconds": round(max(holds, default=0.0), 4),
            "p999_hold_seconds": round(percentile(holds, 0.999), 4),
            "gave_way": self.guard.yields,
            "wal_pauses": self.room.pauses,
            "wal_paused_seconds": round(self.room.paused, 2),
        }


def account_of(work: Work) -> Account:
    """A new one, by the database's limits."""
    return Account(LatencyGuard(work.target.limits.write_lock), WalRoom(work))


@dataclass(frozen=True, slots=True)
class _Turns:
    """What all turns of one run share."""

    work: Work
    connection: apsw.Connection
    account: Account
    limit: int | None
    older_than: float | None
    own: OwnRules

    @property
    def left(self) -> int:
        """How many rows may still be taken."""
        return sys.maxsize if self.limit is None else max(0, self.limit - self.account.rows)


How = Callable[[_Turns, Taking, deque[Found], Taken, Turn], None]


def take_in_turns(
    work: Work,
    connection: apsw.Connection,
    takings: Iterable[Taking],
    account: Account,
    limit: int | None,
    older_than: float | None = None,
) -> Iterator[int]:
    """Take at most `limit` rows, all without one; yields after each turn how many were taken until then.

    Raises WalFull, ActionError, ProfileError, apsw.Error: what was committed by then stays, and is in the account.
    """
    without_syncs(connection)
    connection.pragma("cache_size", -CACHE)
    turns = _Turns(work, connection, account, limit, older_than, own_rules(connection))
    for taking in takings:
        yield from _take_table(turns, taking)


def _take_table(turns: _Turns, taking: Taking) -> Iterator[int]:
    left: set[Any] = set()
    for found in found_rows(turns.connection, taking, turns.work.now, turns.older_than, left):
        waiting = deque(found.rows)
        # What turns up in a range only now is taken too: then no limit can be kept.
        how = _take_ranges if found.close and turns.limit is None else _take_each
        while waiting:
            if turns.left == 0:
                return
            _let_the_others(turns)
            taken = _patient_turn(turns, taking, waiting, how)
            left.update(taken.left)
            yield turns.account.rows
        turns.work.stop.check()


def _let_the_others(turns: _Turns) -> None:
    """Rest, and wait until the WAL has room. Raises WalFull, Cancelled, Interrupted."""
    turns.work.stop.check()
    turns.work.stop.wait(turns.account.guard.still_to_rest())
    turns.account.room.wait()
    turns.work.stop.check()


def _patient_turn(turns: _Turns, taking: Taking, waiting: deque[Found], how: How) -> Taken:
    """One turn; where the lock is not to be had, again after giving way. Raises Locked, Blocked."""
    guard, pause = turns.account.guard, FIRST_YIELD
    gives_up = time.monotonic() + (PATIENCE_AMID if guard.holds else PATIENCE)
    while (taken := _turn(turns, taking, waiting, how, may_fail=time.monotonic() < gives_up)) is None:
        guard.gave_way(pause)
        turns.work.stop.wait(pause)
        turns.work.stop.check()
        pause = min(LONGEST_YIELD, 2 * pause)
    return taken


def _turn(turns: _Turns, taking: Taking, waiting: deque[Found], how: How, *, may_fail: bool) -> Taken | None:
    """One transaction, None when others kept it from beginning or from committing: then everything is as before."""
    taken, account, connection = Taken(), turns.account, turns.connection
    wait_at_most(connection, LOCK_WAIT)
    try:
        with write_turn(connection, LOCK_WAIT) as turn:
            wait_at_most(connection, COMMIT_WAIT * account.guard.budget)
            how(turns, taking, waiting, taken, turn)
            worked = turn.age()
    except (Locked, apsw.BusyError) as error:
        waiting.extendleft(reversed(taken.tried))
        if not may_fail:
            raise _given_up(turns.work, began=bool(taken.tried)) from error
        return None
    finally:
        wait_at_most(connection, READ_WAIT)
    account.guard.ended(turn, len(taken.tried), turn.held - worked)
    account.to += taken.to
    account.changed += taken.changed
    return taken


def _take_each(turns: _Turns, taking: Taking, waiting: deque[Found], taken: Taken, turn: Turn) -> None:
    guard, most, steps = turns.account.guard, turns.left, taking.steps(turns.work.now(), turns.older_than)
    take(turns.connection, steps, waiting, taken, turns.own, lambda rows: rows < most and guard.may_go_on(turn, rows))


def _take_ranges(turns: _Turns, taking: Taking, waiting: deque[Found], taken: Taken, turn: Turn) -> None:
    guard, steps = turns.account.guard, taking.range_steps(turns.work.now(), turns.older_than)
    take_ranges(turns.connection, steps, waiting, taken, turns.own, lambda rows: guard.may_go_on(turn, rows))


def _given_up(work: Work, *, began: bool) -> ActionError:
    who = in_the_way(work)
    if began:
        return Blocked(
            f"readers keep every transaction from committing: {who}",
            reason="reader",
            next_step="`queuekeeper readers` shows who reads; run it again when they are done",
        )
    return Locked(
        f"the write lock did not come free: {who} has it",
        reason="write_lock",
        next_step="`queuekeeper readers` shows who holds it; run it again later",
    )
