"""The actions: every flat file of this folder but the few named here. Only the runner may use one (import contract).

They are found by listing the folder, so that a new action is one new file and nothing else. A list in code would be more
explicit, but it is a second place to forget; the listing is of this one folder, by the file's name, and an entry point of
another package cannot add to it. A file is imported when its action is looked up: a run needs one of them, not all.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

import actions
from actions.model.context import ActionContext
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec

_NOT_ACTIONS = frozenset({"registry", "spec"})


class Action(Protocol):
    """A module with these names. `plan` looks and may refuse; `run` does what was planned. Both raise ActionError."""

    @property
    def SPEC(self) -> ActionSpec: ...  # noqa: N802

    def plan(self, context: ActionContext) -> Plan: ...
    def run(self, context: ActionContext, plan: Plan) -> Done: ...


def action_names() -> tuple[str, ...]:
    """The names of all actions, in alphabetical order; imports none of them."""
    flat_files = (module.name for module in iter_modules(actions.__path__) if not module.ispkg)
    return tuple(sorted(name for name in flat_files if name not in _NOT_ACTIONS))


class _LazyActions(Mapping[str, Action]):
    """The actions by name; each is imported when it is looked up."""

    def __init__(self) -> None:
        self._names = action_names()

    def __getitem__(self, name: str) -> Action:
        if name not in self._names:
            raise KeyError(name)
        return cast("Action", import_module(f"actions.{name}"))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


ACTIONS: Mapping[str, Action] = _LazyActions()
