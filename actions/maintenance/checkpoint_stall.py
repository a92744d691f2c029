"""Predicts how long a checkpoint may stop the application's writers: the wait for readers, the copying, and the cutting.

The rates are those that the last runs measured on this database; without any, conservative ones.
"""

import math
from dataclasses import dataclass

from actions.maintenance.wal_slices import CUT_STEP, LARGEST_SLICE, slice_budget
from actions.model.context import ActionContext
from actions.sqlite.pacing import PLANNED_SHARE

# Bytes a second, for predicting stalls only. Copying with the WAL in the page cache: 416 MB took 0.62 s. Cutting: 600 MB on
# ext4 took 0.6 s by itself, up to 1.8 s beside a writer (bench/README.md).
COPY_RATE, CUT_RATE = 650e6, 330e6
# The names of the figures that remember what was measured, and the bytes from which on a measurement says something.
COPY_RATE_FIGURE, CUT_RATE_FIGURE = "copy_bytes_per_second", "cut_bytes_per_second"
MEANINGFUL_BYTES = 8 << 20
# Time kept for copying where the operator's word says how long a stall may be: by how much more than expected, and seconds.
COPY_RESERVE, LEAST_RESERVE = 1.25, 0.01


@dataclass(frozen=True, slots=True)
class WalRates:
    """Bytes copied, and bytes cut off the WAL file, a second."""

    copying: float
    cutting: float


@dataclass(frozen=True, slots=True)
class ShrinkingBudget:
    """What one TRUNCATE may do under the write lock: bytes cut at once, seconds of waiting for readers, bytes copied."""

    at_once: int
    wait: float
    copied_bytes: float


@dataclass(frozen=True, slots=True)
class StallPrediction:
    """Seconds under the write lock: waiting for readers, copying, and cutting in one hold."""

    waiting: float = 0.0
    copying: float = 0.0
    cutting: float = 0.0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.waiting + self.copying + self.cutting


def known_rates(context: ActionContext) -> WalRates:
    """The rates of this database by our history, else the conservative ones."""
    copying, cutting = (context.run_history.figure(name) for name in (COPY_RATE_FIGURE, CUT_RATE_FIGURE))
    return WalRates(_positive_number(copying, COPY_RATE), _positive_number(cutting, CUT_RATE))


def _positive_number(value: object, default: float) -> float:
    """A rate of our history, unless a person wrote there what is none."""
    return float(value) if isinstance(value, int | float) and value > 0 else default


def accepted_stall(context: ActionContext) -> float:
    """Seconds for which an automatic run may stop the writers: by the operator's word, else by the limits."""
    limits = context.target.limits
    by_limits = 2 * limits.checkpoint_wait + PLANNED_SHARE * slice_budget(context)
    return max(by_limits, context.numeric_option("stall", 0.0))


def plan_shrinking(context: ActionContext, rates: WalRates, copying: float) -> ShrinkingBudget:
    """The budget of a TRUNCATE that is expected to copy for `copying` seconds under the write lock.

    With the operator's word it waits for readers as long as that leaves.
    """
    limits = context.target.limits
    at_once = min(LARGEST_SLICE, max(CUT_STEP, int(PLANNED_SHARE * slice_budget(context) * rates.cutting)))
    reserved = at_once / rates.cutting + COPY_RESERVE * copying + LEAST_RESERVE
    wait = max(limits.checkpoint_wait, context.numeric_option("stall", 0.0) - reserved)
    allowed = max(accepted_stall(context) - wait - at_once / rates.cutting, LEAST_RESERVE)
    return ShrinkingBudget(at_once, wait, allowed * rates.copying if context.automatic else math.inf)


def measured_rate(count: int, seconds: float) -> float | None:
    """Bytes a second; None where they are too few to say something."""
    return round(count / seconds, 1) if count >= MEANINGFUL_BYTES and seconds > 0 else None
