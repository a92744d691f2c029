"""What one checkpoint run has done until now: kept beside the work, so that a run that ends early tells it too."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from actions.maintenance.checkpoint_stall import COPY_RATE_FIGURE, CUT_RATE_FIGURE, measured_rate
from actions.maintenance.wal_slices import TailCut
from actions.model.plan import Figure
from actions.sqlite.pacing import delay_after_hold


@dataclass(slots=True)
class CheckpointRecord:
    """`result`: the row of the last pragma; `longest_hold`, `last_hold`: of the write lock, in seconds.

    `is_emptied`: the last TRUNCATE made the WAL file empty. `copied_bytes` were copied passively, in `copied_seconds`.
    """

    result: tuple[int, int, int]
    cut: TailCut = field(default_factory=TailCut)
    longest_hold: float = 0.0
    last_hold: float = 0.0
    is_emptied: bool = False
    copied_bytes: int = 0
    copied_seconds: float = 0.0

    def record_slice(self, slice_: TailCut) -> None:
        """Add a slice."""
        self.cut += slice_
        self.record_hold(slice_.longest_hold)

    def record_hold(self, seconds: float) -> None:
        """Remember how long the write lock was held now, and at most."""
        self.last_hold = seconds
        self.longest_hold = max(self.longest_hold, seconds)

    def record_copy(self, count: int, seconds: float) -> None:
        """Add `count` bytes that were copied in `seconds`."""
        self.copied_bytes += count
        self.copied_seconds += seconds

    def time_figures(self) -> Mapping[str, Figure]:
        """The slices, the longest hold, the longest stall of a waiting writer, and the rates where they say something.

        A writer that waits for the whole hold sleeps for one step of its busy handler more (actions/sqlite/pacing.py).
        """
        stall = self.longest_hold + delay_after_hold(self.longest_hold) if self.longest_hold else 0.0
        rates = {
            COPY_RATE_FIGURE: measured_rate(self.copied_bytes, self.copied_seconds),
            CUT_RATE_FIGURE: measured_rate(self.cut.bytes, self.cut.seconds),
        }
        return {
            "slices": self.cut.slices,
            "longest_hold_seconds": round(self.longest_hold, 4),
            "stall_seconds": round(stall, 4),
            **{name: rate for name, rate in rates.items() if rate is not None},
        }
