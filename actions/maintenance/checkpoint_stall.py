"""Predicts how long a checkpoint may stop the application's writers: the wait for readers, the copying, and the cutting.

The rates are those that the last runs measured on this database; without any, conservative ones.
"""

from dataclasses import dataclass

from actions.maintenance.wal_slices import LARGEST_SLICE
from actions.model.context import ActionContext
from actions.sqlite.pacing import PLANNED_SHARE

# Bytes a second, for predicting stalls only. Copying with the WAL in the page cache: 416 MB took 0.62 s. Cutting: 600 MB on
# ext4 took 0.6 s by itself, up to 1.8 s beside a writer (bench/README.md).
COPY_RATE, CUT_RATE = 650e6, 330e6
# The names of the figures that remember what was measured, and the bytes from which on a measurement says something.
COPY_RATE_FIGURE, CUT_RATE_FIGURE = "copy_bytes_per_second", "cut_bytes_per_second"
MEANINGFUL_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class WalRates:
    """Bytes copied, and bytes cut off the WAL file, a second."""

    copying: float
    cutting: float


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
    return WalRates(float(copying or COPY_RATE), float(cutting or CUT_RATE))


def bytes_cut_at_once(context: ActionContext, rates: WalRates) -> int:
    """The bytes that one hold of the write lock may cut: what is planned to fit into its budget, LARGEST_SLICE at most."""
    return min(LARGEST_SLICE, int(PLANNED_SHARE * context.target.limits.write_lock * rates.cutting))


def measured_rate(count: int, seconds: float) -> float | None:
    """Bytes a second; None where they are too few to say something."""
    return round(count / seconds, 1) if count >= MEANINGFUL_BYTES and seconds > 0 else None
