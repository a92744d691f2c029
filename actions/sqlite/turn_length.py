"""How long turns with the write lock are planned for: long ones, or short ones where the processor is wanted by many.

Long turns do more between two rests. But who is interrupted in the middle of one holds the lock for as long as the others
run; a turn that is shorter than what the kernel gives to one of many ends before. Which is better depends on the machine
at that moment, so both are tried, and the one with more rows a second is kept. Pure.
"""

from dataclasses import dataclass, field

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
