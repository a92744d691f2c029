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

from actions.sqlite.write_transaction import WriteTransaction, next_batch_size

# Seconds of a short turn: less than a kernel's usual time slice, and its rest is short too.
SHORT_HOLD = 0.002
# The other length is tried for so many of so many turns.
TRIALS, TRIAL_CYCLE = 4, 40
# After a turn beyond the budget so many are short, whatever is faster.
CAREFUL_TRANSACTIONS = 200
# How much the newest turn counts.
RATE_WEIGHT = 0.2


@dataclass(slots=True)
class HoldLength:
    """`longest`: seconds of a long turn. `rates`: rows a second of the whole cycle, rest included, by length."""

    longest: float
    turns: int = 0
    careful_until: int = 0
    rates: dict[float, float] = field(default_factory=dict)

    @property
    def available_lengths(self) -> tuple[float, ...]:
        """What there is to choose from, the long one first."""
        return (self.longest, SHORT_HOLD) if self.longest > SHORT_HOLD else (self.longest,)

    @property
    def planned_seconds(self) -> float:
        """Seconds that the next turn is planned for."""
        if self.turns < self.careful_until:
            return self.available_lengths[-1]
        best = max(self.available_lengths, key=lambda length: self.rates.get(length, 0.0))
        other = self.available_lengths[-1] if best == self.longest else self.longest
        return other if self.turns % TRIAL_CYCLE >= TRIAL_CYCLE - TRIALS else best

    def record_cycle(self, rows: int, cycle: float, *, overran: bool) -> None:
        """From a turn of this length that took `rows` rows, `cycle` seconds after the one before it ended."""
        length, rate = self.planned_seconds, rows / cycle if cycle > 0 else 0.0
        known = self.rates.get(length)
        self.rates[length] = rate if known is None else known + RATE_WEIGHT * (rate - known)
        self.turns += 1
        if overran:
            self.careful_until = self.turns + CAREFUL_TRANSACTIONS


# Seconds between two tries of a connection that waits for the lock.
BACK_OFF = tuple(step / 1000 for step in (1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100))
# By how much a sleep may be longer than it was asked for: in proportion, and in seconds.
SLEEP_FACTOR, SLEEP_LATENESS = 1.2, 0.0005
# Share of the longest hold that turns are planned for; the rest is for a busy machine.
PLANNED_SHARE = 0.33
FIRST_BATCH, LARGEST_BATCH = 50, 20_000
# How much the newest turn counts in what a row's commit is thought to cost.
COMMIT_COST_WEIGHT = 0.3


def delay_after_hold(held: float) -> float:
    """Seconds within which whoever has waited for `held` seconds tries again; sleeps are a little longer than asked for."""
    tried = 0.0
    for step in BACK_OFF:
        tried += step
        if tried >= held:
            return SLEEP_FACTOR * step + SLEEP_LATENESS
    return SLEEP_FACTOR * BACK_OFF[-1] + SLEEP_LATENESS


def nearest_rank_percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile; 0 of none. `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclass(slots=True)
class WritePacing:
    """The turns of one run. `budget`: seconds, limits.write_lock; `rows`: the most that the next turn may take.

    `row_commit`: seconds of a commit for each row in it, learned: the commit comes after the last look at the clock.
    `holds`: seconds, of all turns; `yields`: how often others went first.
    """

    budget: float
    length: HoldLength = field(init=False)
    ended_at: float | None = None
    rows: int = FIRST_BATCH
    row_commit: float = 0.0
    delayed_until: float = 0.0
    holds: list[float] = field(default_factory=list)
    yields: int = 0

    def __post_init__(self) -> None:
        self.length = HoldLength(PLANNED_SHARE * self.budget)

    def may_add_row(self, turn: WriteTransaction, rows: int) -> bool:
        """Whether a turn that has taken `rows` rows may take one more. The first one always: else nothing would be done."""
        if rows == 0:
            return True
        return rows < self.rows and turn.seconds_held() + rows * self.row_commit < self.length.planned_seconds

    def remaining_delay(self) -> float:
        """Seconds."""
        return max(0.0, self.delayed_until - time.monotonic())

    def record_transaction(self, turn: WriteTransaction, rows: int, committing: float) -> None:
        """Learn from a turn that is over; `committing`: the seconds of it that its commit took."""
        self.holds.append(turn.held)
        now = time.monotonic()
        if self.ended_at is not None:
            self.length.record_cycle(rows, now - self.ended_at, overran=turn.held > self.budget)
        self.ended_at = now
        if rows:
            self.row_commit += (COMMIT_COST_WEIGHT if self.row_commit else 1.0) * (committing / rows - self.row_commit)
        # A long turn says what its own rows cost; a short one may have ended for want of rows.
        size = max(1, rows) if turn.held > self.budget / 2 else self.rows
        self.rows = next_batch_size(size, turn.held, self.budget, LARGEST_BATCH)
        self._extend_delay(max(delay_after_hold(turn.held), turn.held if turn.held > self.budget else 0.0))
        if turn.waited > self.budget:  # somebody needs the lock more than we do
            self.record_yield(turn.waited)

    def record_yield(self, seconds: float) -> None:
        """Others go first for so long, and the next turn is smaller."""
        self.yields += 1
        self.rows = max(1, self.rows // 2)
        self._extend_delay(seconds)

    def _extend_delay(self, seconds: float) -> None:
        self.delayed_until = max(self.delayed_until, time.monotonic() + seconds)
