"""A bound on the values of a label that the application chooses: one queue per customer would fill Prometheus.

https://prometheus.io/docs/practices/naming/#labels warns of unbounded label values. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

OTHER = "other"
QUEUES = 20


@dataclass(frozen=True, slots=True)
class LabelLimit:
    """Which values have a label of their own (`named`); `folded` is how many distinct values share the label `other`."""

    named: tuple[str, ...] = ()
    folded: int = 0

    def label_for(self, value: str) -> str:
        """The label of this value: itself, or `other`."""
        return value if value in self.named else OTHER

    def all_labels(self) -> tuple[str, ...]:
        """Every label in use. An empty queue has one nameless label, so that its zeros are seen."""
        return (*self.named, *((OTHER,) if self.folded and OTHER not in self.named else ())) or ("",)


def limit_labels(values: Iterable[str], before: tuple[str, ...] = (), limit: int = QUEUES) -> LabelLimit:
    """Give at most `limit` values a label: those that had one before, then new ones in alphabetical order.

    A label that was published stays: a series that comes and goes would read as a task that does.
    """
    known = before[:limit]
    new = sorted(set(values) - set(known))
    free = limit - len(known)
    return LabelLimit(known + tuple(new[:free]), len(new[free:]))


def count_folded_labels(readings: Mapping[str, Any]) -> int:
    """How many queue names share the label `other`, in the collector that folded most (its reading has `names`)."""
    limits = (getattr(reading, "names", None) for reading in readings.values())
    return max((limit.folded for limit in limits if isinstance(limit, LabelLimit)), default=0)
