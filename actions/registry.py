"""The actions. Adding one is an import and a word here; only the door may run one (import contract)."""

from collections.abc import Mapping
from typing import Protocol

from actions import (
    analyze,
    backup,
    checkpoint,
    drill,
    integrity,
    optimize,
    prune,
    purge,
    requeue,
    restore,
    vacuum,
    verify,
)
from actions.model.context import ActionContext
from actions.model.options import ActionOption
from actions.model.plan import Done, Plan


class Action(Protocol):
    """A module with these names. `plan` looks and may refuse; `run` does what was planned. Both raise ActionError.

    `OPTIONS`: the names and kinds of its options. `LONG`: it takes the lane of long actions. `AUTOMATIC`: rules and
    schedules may ask for it. `MAY_BE_MISSING`: it works where the database is not there. `WINDOWED`: automatic runs only
    inside the action's window. `DESTRUCTIVE`: automatic runs need a fresh verified backup.
    """

    @property
    def NAME(self) -> str: ...  # noqa: N802
    @property
    def OPTIONS(self) -> Mapping[str, ActionOption]: ...  # noqa: N802
    @property
    def LONG(self) -> bool: ...  # noqa: N802

    @property
    def AUTOMATIC(self) -> bool: ...  # noqa: N802
    @property
    def MAY_BE_MISSING(self) -> bool: ...  # noqa: N802
    @property
    def WINDOWED(self) -> bool: ...  # noqa: N802
    @property
    def DESTRUCTIVE(self) -> bool: ...  # noqa: N802

    def plan(self, work: ActionContext) -> Plan: ...
    def run(self, work: ActionContext, plan: Plan) -> Done: ...


ACTIONS: Mapping[str, Action] = {
    action.NAME: action
    for action in (
        checkpoint, backup, verify, drill, restore, prune, requeue, purge, vacuum, analyze, optimize, integrity,
    )
}  # fmt: skip
