"""The actions: every flat file of this folder but the few named here. Only the runner may use one (import contract).

They are found by listing the folder, so that a new action is one new file and nothing else. A list in code would be more
explicit, but it is a second place to forget; the listing is of this one folder, by the file's name, and an entry point of
another package cannot add to it. A file is imported when its action is looked up: a run needs one of them, not all.
A file that holds no action of its name (a copy, a note) is left out with one warning: it must not stop the others.
"""

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

import actions
from actions.model.context import ActionContext
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec

LOG = logging.getLogger(__name__)

_NOT_ACTIONS = frozenset({"registry", "spec"})


class Action(Protocol):
    """A module with these names. `plan` looks and may refuse; `run` does what was planned. Both raise ActionError."""

    @property
    def SPEC(self) -> ActionSpec: ...  # noqa: N802

    def plan(self, context: ActionContext) -> Plan: ...
    def run(self, context: ActionContext, plan: Plan) -> Done: ...


def action_names() -> tuple[str, ...]:
    """The names of the files that may hold an action, in alphabetical order; imports none of them."""
    flat_files = (module.name for module in iter_modules(actions.__path__) if not module.ispkg)
    return tuple(sorted(name for name in flat_files if name.isidentifier() and name not in _NOT_ACTIONS))


@cache
def _load_action(name: str) -> Action | None:
    """The action in the file of this name; None, after one warning, where the file holds no such action."""
    try:
        module = import_module(f"actions.{name}")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the file may be anything, and the other actions must work
        problem = f"it cannot be imported: {type(error).__name__}: {error}"
    else:
        problem = _describe_problem(module, name)
        if not problem:
            return cast("Action", module)
    LOG.warning("actions/%s.py is left out: %s; correct it or remove it", name, problem)
    return None


def _describe_problem(module: object, name: str) -> str:
    """Why this module is not the action of this name; empty when it is."""
    spec = getattr(module, "SPEC", None)
    if not isinstance(spec, ActionSpec):
        return "it has no SPEC"
    if spec.name != name:
        return f'its SPEC has the name "{spec.name}"'
    missing = [function for function in ("plan", "run") if not callable(getattr(module, function, None))]
    return f"it has no function {missing[0]}" if missing else ""


class _LazyActions(Mapping[str, Action]):
    """The actions by name; each is imported when it is looked up."""

    def __init__(self) -> None:
        self._names = action_names()

    def __getitem__(self, name: str) -> Action:
        action = _load_action(name) if name in self._names else None
        if action is None:
            raise KeyError(name)
        return action

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if _load_action(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


ACTIONS: Mapping[str, Action] = _LazyActions()
