"""Everything that one poll read of one database."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from collectors.access.change_detection import FileSignature
from collectors.metric import Sample
from collectors.target import Target


class CollectorResult(NamedTuple):
    """The outcome of one collector. `reason` is a short stable word for a label, `message` a sentence for a person."""

    success: bool
    duration: float
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One poll. `up`: the poll could read what may be read; `state` is a word for `queuekeeper_databases`.

    `taken_at`: when its values were last known to hold: by reading them, or because no file had changed (seconds since
    the epoch). `opened_at`: when it was last read; `signature`: the stat of its files right before;
    `can_age`: the clock alone may make it wrong (`collectors.access.refresh`), or only a part of it was read.
    `readings` holds each collector's own value by collector name: the next poll's collectors see them as `previous`.
    Samples of a collector that failed are absent, and `collectors` says why. `folded_labels`: how many distinct queue
    names had to share the label `other`. `separate_until`: until then each collector reads by itself, since what they share
    did not fit into its part of the budget.
    """

    target: Target
    taken_at: float
    up: bool
    state: str
    message: str = ""
    readings: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    collectors: Mapping[str, CollectorResult] = field(default_factory=dict)
    folded_labels: int = 0
    signature: FileSignature | None = None
    opened_at: float = 0.0
    can_age: bool = False
    separate_until: float = 0.0

    def samples_of(self, name: str) -> Iterator[Sample]:
        """The samples of the metric called `name`."""
        return (sample for sample in self.samples if sample.metric.name == name)
