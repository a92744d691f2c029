"""Plans and results: what an action is about to do, in words a person can consent to, and what it did.

`--dry-run`, history and the webhook show the same plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Figure = str | int | float | bool | None
# The figure of a run that made the content what a person wants: when (seconds since the epoch). Nothing older counts since.
ACCEPTED_FIGURE = "content_accepted"


@dataclass(frozen=True, slots=True)
class Plan:
    """`steps` in order; none means nothing to do. `figures` hold the numbers, in bytes, seconds and rows.

    `stall` is how long the application may have to wait for us, in seconds, predicted.
    """

    steps: tuple[str, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    stall: float = 0.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What an action did: one sentence and its numbers. `totals` feed the lifetime counters of metrics."""

    message: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    totals: Mapping[str, float] = field(default_factory=dict)
