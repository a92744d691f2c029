"""What our history tells an action about its database, asked for only when the action wants to know."""

from collections.abc import Callable
from dataclasses import dataclass

from actions.model.plan import Figure


@dataclass(frozen=True, slots=True)
class FreePageMinimum:
    """The fewest free pages that were seen in one hour. `hour`: hours since the epoch, UTC."""

    hour: int
    pages: int


@dataclass(frozen=True, slots=True)
class RunHistory:
    """`figure(name)`: what the newest run of this action that was done left under that name, None when none did.

    `free_lows()`: of every hour that is remembered, oldest first; an hour in which nobody looked is missing.
    """

    figure: Callable[[str], Figure] = lambda _name: None
    free_lows: Callable[[], tuple[FreePageMinimum, ...]] = tuple
