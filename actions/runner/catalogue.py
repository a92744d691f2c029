"""Which actions there are and what they take, for configuration and commands: what they *do* stays behind the door."""

from collections.abc import Mapping
from dataclasses import dataclass

from actions.model.options import ActionOption
from actions.registry import ACTIONS


@dataclass(frozen=True, slots=True)
class KnownAction:
    """One action. `long`: it takes the lane of long actions. `automatic`: rules and schedules may ask for it.

    `windowed`: they need a window for it. `destructive`: they need a fresh verified backup.
    """

    options: Mapping[str, ActionOption]
    long: bool
    automatic: bool
    windowed: bool
    destructive: bool


KNOWN_ACTIONS: Mapping[str, KnownAction] = {
    name: KnownAction(action.OPTIONS, action.LONG, action.AUTOMATIC, action.WINDOWED, action.DESTRUCTIVE)
    for name, action in ACTIONS.items()
}
