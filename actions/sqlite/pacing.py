"""How long a turn with the write lock may go on, how long to rest after it, and when to let others go first.

What the application feels is the time that the lock is held, and that its own next try is still away. SQLite's busy
handler sleeps 1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, then 100 ms between two tries (sqliteDefaultBusyCallback in
https://sqlite.org/src/file/src/main.c). So after each turn we rest as long as somebody who began to wait when it began
may be asleep, and a little more: then everybody who waits gets a try, and waits no longer than the turn and one such step.

The little more is what counts. With rests of half that length, or of just that length, or of random lengths, turns of
15 ms keep one waiter in ten thousand out for a second, since every miss makes the next sleep longer; with it the longest
wait is 23 ms (bench/back_off.py).
"""

import math
import time
from dataclasses import dataclass, field

from actions.sqlite.turn_length import TurnLength
from actions.sqlite.write_transaction import Turn, next_size

# Seconds between two tries of a connection that waits for the lock.
BACK_OFF = tuple(step / 1000 for step in (1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100))
# By how much a sleep may be longer than it was asked for: in proportion, and in seconds.
LONGER, LATE = 1.2, 0.0005
# Share of the longest hold that turns are planned for; the rest is for a busy machine.
AIM = 0.33
FIRST_TURN, LARGEST_TURN = 50, 20_000
# How much the newest turn counts in what a row's commit is thought to cost.
NEWEST = 0.3


def rest_after(held: float) -> float:
    """Seconds within which whoever has waited for `held` seconds tries again; sleeps are a little longer than asked for."""
    tried = 0.0
    for step in BACK_OFF:
        tried += step
        if tried >= held:
            return LONGER * step + LATE
    return LONGER * BACK_OFF[-1] + LATE


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile; 0 of none. `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclass(slots=True)
class LatencyGuard:
    """The turns of one run. `budget`: seconds, limits.write_lock; `rows`: the most that the next turn may take.

    `row_commit`: seconds of a commit for each row in it, learned: the commit comes after the last look at the clock.
    `holds`: seconds, of all turns; `yields`: how often others went first.
    """

    budget: float
    length: TurnLength = field(init=False)
    ended_at: float | None = None
    rows: int = FIRST_TURN
    row_commit: float = 0.0
    rests_until: float = 0.0
    holds: list[float] = field(default_factory=list)
    yields: int = 0

    def __post_init__(self) -> None:
        self.length = TurnLength(AIM * self.budget)

    def may_go_on(self, turn: Turn, rows: int) -> bool:
        """Whether a turn that has taken `rows` rows may take one more. The first one always: else nothing would be done."""
        if rows == 0:
            return True
        return rows < self.rows and turn.age() + rows * self.row_commit < self.length.now

    def still_to_rest(self) -> float:
        """Seconds."""
        return max(0.0, self.rests_until - time.monotonic())

    def ended(self, turn: Turn, rows: int, committing: float) -> None:
        """Learn from a turn that is over; `committing`: the seconds of it that its commit took."""
        self.holds.append(turn.held)
        now = time.monotonic()
        if self.ended_at is not None:
            self.length.learn(rows, now - self.ended_at, overran=turn.held > self.budget)
        self.ended_at = now
        if rows:
            self.row_commit += (NEWEST if self.row_commit else 1.0) * (committing / rows - self.row_commit)
        # A long turn says what its own rows cost; a short one may have ended for want of rows.
        size = max(1, rows) if turn.held > self.budget / 2 else self.rows
        self.rows = next_size(size, turn.held, self.budget, LARGEST_TURN)
        self._rest(max(rest_after(turn.held), turn.held if turn.held > self.budget else 0.0))
        if turn.waited > self.budget:  # somebody needs the lock more than we do
            self.gave_way(turn.waited)

    def gave_way(self, seconds: float) -> None:
        """Others go first for so long, and the next turn is smaller."""
        self.yields += 1
        self.rows = max(1, self.rows // 2)
        self._rest(seconds)

    def _rest(self, seconds: float) -> None:
        self.rests_until = max(self.rests_until, time.monotonic() + seconds)
