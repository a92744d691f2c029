"""What is declared about each action, for the configuration, the command line and the page. What they do stays in here."""

from collections.abc import Iterator, Mapping

from actions.registry import ACTIONS
from actions.spec import ActionSpec


class _LazySpecs(Mapping[str, ActionSpec]):
    """The specs by the action's name; an action's file is imported when its spec is looked up."""

    def __getitem__(self, name: str) -> ActionSpec:
        return ACTIONS[name].SPEC

    def __contains__(self, name: object) -> bool:
        return name in ACTIONS

    def __iter__(self) -> Iterator[str]:
        return iter(ACTIONS)

    def __len__(self) -> int:
        return len(ACTIONS)


ACTION_SPECS: Mapping[str, ActionSpec] = _LazySpecs()
