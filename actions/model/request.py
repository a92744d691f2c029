"""Requests for runs. A request only *selects*: what runs and how is fixed by the action and the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from actions.model.condition import Condition

Trigger = Literal["person", "threshold", "schedule", "alert"]
Option = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one action on one database.

    `options` are the action's own, by the names of its spec. `condition` is what triggered an automatic request:
    it is read again before acting (gone: nothing to do) and after (did it help?). `asked_by`: the person, as
    the system, the page or the API knows them.
    """

    action: str
    database: str
    trigger: Trigger = "person"
    options: Mapping[str, Option] = field(default_factory=dict)
    rule: str = ""
    condition: Condition | None = None
    episode: str = ""
    cooldown: float = 0.0
    priority: int = 0
    asked_by: str = ""

    @property
    def is_automatic(self) -> bool:
        """Whether no person made it: cooldown, windows and quotas then bind it."""
        return self.trigger != "person"
