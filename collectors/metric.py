"""A metric's declaration, and one value of it.

A value is a number, or the time since which it grows. Ages are computed when a sample is used (`Sample.value_at`), in one
place for the scrape, the rules, the page and the commands, so an age never freezes when the poller does.
Naming follows the Prometheus guideline "Metric and label naming": base units, the unit in the name.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter"]
Fold = Literal["sum", "max", "min"]


@dataclass(frozen=True, slots=True)
class Since:
    """A value that grows by one each second; `time` is when it was zero (seconds since the epoch, UTC)."""

    time: float


@dataclass(frozen=True, slots=True)
class Metric:
    """One family. `labels` come after `database` when `of_database`; `fold` makes one number of many for a rule.

    `needs_two_readings`: one reading cannot tell its value. `moved_by_actions`: our own actions move it while they run, so
    that a reading from that time is no finding.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Kind = "gauge"
    fold: Fold = "max"
    of_database: bool = True
    needs_two_readings: bool = False
    moved_by_actions: bool = False

    def __hash__(self) -> int:
        """Hash the name: there is one declaration of each metric."""
        return hash(self.name)

    def __call__(self, value: float | Since, *labels: str) -> "Sample":
        """Make one sample; labels in the declared order. Raises ValueError when their number differs."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, got {labels}")
        return Sample(self, labels, value)


class Sample(NamedTuple):
    """One value of one metric of one database."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Since

    def value_at(self, now: float) -> float:
        """The number at `now` (seconds since the epoch). A clock that jumped back gives 0, never a negative age."""
        if isinstance(self.value, Since):
            return max(0.0, now - self.value.time)
        return self.value


def fold_samples(samples: Iterable[Sample], now: float) -> float | None:
    """Fold the samples of one metric into one number, as its declaration says; None without samples."""
    values = [(sample.metric.fold, sample.value_at(now)) for sample in samples]
    if not values:
        return None
    numbers = [value for _, value in values]
    match values[0][0]:
        case "sum":
            return sum(numbers)
        case "max":
            return max(numbers)
        case "min":
            return min(numbers)
