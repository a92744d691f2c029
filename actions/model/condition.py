"""Conditions: when a metric counts as wrong. Pure: samples and a clock in, a verdict out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from collectors.metric import Sample, fold_samples


class ConditionVerdict(StrEnum):
    """What a reading means for a condition. UNKNOWN changes nothing: absence is never recovery."""

    WRONG = "wrong"
    BETWEEN = "between"
    CLEAR = "clear"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Measurement:
    """The value of the condition's metric, None where there is none.

    `read`: the metric's collector could read, so that None means that there is no value; else None means nothing.
    """

    value: float | None
    read: bool = True


@dataclass(frozen=True, slots=True)
class Condition:
    """One metric beyond a bound, or without a value. At the level `clear` it is healed again (default: within the bound).

    `absent`: for how long there must be no value, in seconds. The rule's watch (actions/policy/rules.py) waits for that;
    at one moment, no value is wrong. `where` selects the samples with these label values, which are folded as the metric
    declares.
    """

    metric: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    absent: float | None = None
    where: Mapping[str, str] = field(default_factory=dict)

    def value_from(self, samples: Iterable[Sample], now: float) -> float | None:
        """The value of the metric in these samples; None when there is none."""
        return fold_samples((sample for sample in samples if self._selects_sample(sample)), now)

    def judge_measurement(self, measured: Measurement) -> ConditionVerdict:
        """Whether the value is wrong, clear, or in the band between the bound and the clear level."""
        value = measured.value
        if self.absent is not None:
            return _judge_absence(measured)
        if value is None:
            return ConditionVerdict.UNKNOWN
        if self._is_beyond_bound(value):
            return ConditionVerdict.WRONG
        return ConditionVerdict.CLEAR if self._is_clear(value) else ConditionVerdict.BETWEEN

    @property
    def clear_level(self) -> float | None:
        """The level at which the condition is healed; None where any value heals it."""
        bound = self.above if self.above is not None else self.below
        return bound if self.clear is None else self.clear

    def _selects_sample(self, sample: Sample) -> bool:
        labels = dict(zip(sample.metric.labels, sample.labels, strict=True))
        return sample.metric.name == self.metric and all(labels.get(k) == v for k, v in self.where.items())

    def _is_beyond_bound(self, value: float) -> bool:
        too_high = self.above is not None and value > self.above
        return too_high or (self.below is not None and value < self.below)

    def _is_clear(self, value: float) -> bool:
        if self.clear is None:
            return True
        return value <= self.clear if self.above is not None else value >= self.clear


def _judge_absence(measured: Measurement) -> ConditionVerdict:
    if measured.value is not None:
        return ConditionVerdict.CLEAR
    return ConditionVerdict.WRONG if measured.read else ConditionVerdict.UNKNOWN
