"""Paces write transactions: how long one may hold the lock, how long to pause after it, when to let the application go first.

The application feels how long the lock is held, and how long its own next try is still away. SQLite's busy handler sleeps
1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, then 100 ms between two tries (sqliteDefaultBusyCallback in
https://sqlite.org/src/file/src/main.c). So after each transaction we pause for as long as a process that began to wait with
it may be asleep, and a little longer: then each waiting process gets a try, after the transaction and one such step at most.

The little more matters. With pauses of half that length, or of just that length, or of random lengths, transactions of 15 ms
keep one waiting process in ten thousand out for a second, since every failed try makes the next sleep longer; with it the
longest wait is 23 ms (bench/back_off.py).
"""

import math
import time
from dataclasses import dataclass, field

from actions.sqlite.write_transaction import WriteTransaction, next_batch_size

# Long transactions do more between two pauses. But a transaction that the kernel interrupts holds the lock for as long as
# other processes run; one that is shorter than a time slice ends before. Which is better depends on the machine at that
# moment, so both lengths are tried, and the one with more rows a second is used.
# Seconds of a short transaction: less than a kernel's usual time slice, and the pause after it is short too.
SHORT_HOLD = 0.002
# The other length is tried for TRIALS of each TRIAL_CYCLE transactions.
TRIALS, TRIAL_CYCLE = 4, 40
# After a transaction beyond the budget this many are short, even if long ones are faster.
CAREFUL_TRANSACTIONS = 200
# The weight of the newest transaction in the moving average of rows a second.
RATE_WEIGHT = 0.2


@dataclass(slots=True)
class HoldLength:
    """Chooses how long the next transaction may hold the lock.

    `longest`: seconds of a long transaction. `rates`: rows a second of the whole cycle, pause included, by length.
    """

    longest: float
    transactions: int = 0
    careful_until: int = 0
    rates: dict[float, float] = field(default_factory=dict)

    @property
    def available_lengths(self) -> tuple[float, ...]:
        """The lengths to choose from, the long one first."""
        return (self.longest, SHORT_HOLD) if self.longest > SHORT_HOLD else (self.longest,)

    @property
    def planned_seconds(self) -> float:
        """Seconds that the next transaction is planned for."""
        if self.transactions < self.careful_until:
            return self.available_lengths[-1]
        best = max(self.available_lengths, key=lambda length: self.rates.get(length, 0.0))
        other = self.available_lengths[-1] if best == self.longest else self.longest
        return other if self.transactions % TRIAL_CYCLE >= TRIAL_CYCLE - TRIALS else best

    def record_cycle(self, rows: int, cycle: float, *, overran: bool) -> None:
        """Learn from a transaction of the planned length, which ended `cycle` seconds after the one before it."""
        length, rate = self.planned_seconds, rows / cycle if cycle > 0 else 0.0
        known = self.rates.get(length)
        self.rates[length] = rate if known is None else known + RATE_WEIGHT * (rate - known)
        self.transactions += 1
        if overran:
            self.careful_until = self.transactions + CAREFUL_TRANSACTIONS


# Seconds between two tries of a connection that waits for the lock.
BACK_OFF = tuple(step / 1000 for step in (1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100))
# By how much a sleep may be longer than requested: in proportion, and in seconds.
SLEEP_FACTOR, SLEEP_LATENESS = 1.2, 0.0005
# Transactions are planned for this share of the budget; the remainder is for a busy machine.
PLANNED_SHARE = 0.33
FIRST_BATCH, LARGEST_BATCH = 50, 20_000
# The weight of the newest transaction in the estimated cost of a row's commit.
COMMIT_COST_WEIGHT = 0.3


def delay_after_hold(held: float) -> float:
    """Seconds within which a process that has waited for `held` seconds tries again, with sleeps a little too long."""
    tried = 0.0
    for step in BACK_OFF:
        tried += step
        if tried >= held:
            return SLEEP_FACTOR * step + SLEEP_LATENESS
    return SLEEP_FACTOR * BACK_OFF[-1] + SLEEP_LATENESS


def nearest_rank_percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile of the values, 0 without any. `share` from 0 to 1."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclass(slots=True)
class WritePacing:
    """Paces the write transactions of one run. `budget`: seconds, limits.write_lock; `rows`: the most for the next transaction.

    `row_commit`: seconds of a commit for each of its rows, learned, since the clock is last read before the commit.
    `holds`: seconds of each transaction; `yields`: how often the application went first.
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

    def may_add_row(self, transaction: WriteTransaction, rows: int) -> bool:
        """Whether a transaction with `rows` rows may change one more. The first one always may: else nothing would be done."""
        if rows == 0:
            return True
        return rows < self.rows and transaction.seconds_held() + rows * self.row_commit < self.length.planned_seconds

    def remaining_delay(self) -> float:
        """Seconds until the next transaction may begin."""
        return max(0.0, self.delayed_until - time.monotonic())

    def record_transaction(self, transaction: WriteTransaction, rows: int, committing: float) -> None:
        """Learn from a transaction that has ended; `committing`: the seconds that its commit took."""
        self.holds.append(transaction.held)
        now = time.monotonic()
        if self.ended_at is not None:
            self.length.record_cycle(rows, now - self.ended_at, overran=transaction.held > self.budget)
        self.ended_at = now
        if rows:
            self.row_commit += (COMMIT_COST_WEIGHT if self.row_commit else 1.0) * (committing / rows - self.row_commit)
        # A long transaction tells what its own rows cost; a short one may have had no more rows.
        size = max(1, rows) if transaction.held > self.budget / 2 else self.rows
        self.rows = next_batch_size(size, transaction.held, self.budget, LARGEST_BATCH)
        self._extend_delay(
            max(delay_after_hold(transaction.held), transaction.held if transaction.held > self.budget else 0.0)
        )
        if transaction.waited > self.budget:  # another process needs the lock more than we do
            self.record_yield(transaction.waited)

    def record_yield(self, seconds: float) -> None:
        """Let other processes go first for `seconds`, and make the next transaction smaller."""
        self.yields += 1
        self.rows = max(1, self.rows // 2)
        self._extend_delay(seconds)

    def _extend_delay(self, seconds: float) -> None:
        self.delayed_until = max(self.delayed_until, time.monotonic() + seconds)
