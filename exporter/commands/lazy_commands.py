"""Commands by name, each imported or built when it is looked up: most need neither HTTP nor the agent."""

from collections import UserDict
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import click


class LazyCommands(UserDict[str, Any]):
    """The commands of a click group: those of `files`, and of every action of this group without a file (its spec's).

    `files`: the module of each command in this folder; in it, the command's function is named after the command. `group`:
    the name of the group, empty for the command line itself.
    """

    def __init__(self, files: Mapping[str, str], group: str = "") -> None:
        super().__init__(files)
        self._group = group

    def __getitem__(self, name: str) -> click.Command:
        command = self.data.get(name)
        if command is None:
            command = self._build(name)
        elif isinstance(command, str):
            module = import_module(f"exporter.commands.{command}")
            command = getattr(module, name.replace("-", "_"))
        self.data[name] = command
        loaded: click.Command = command
        return loaded

    def __contains__(self, name: object) -> bool:
        return name in self.data or name in self._action_names()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.data, *self._action_names()}))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _build(self, name: str) -> click.Command:
        from actions.runner.catalogue import ACTION_SPECS
        from exporter.commands.action_command import build_action_command

        spec = ACTION_SPECS[name]
        if spec.command_group != self._group:
            raise KeyError(name)
        return build_action_command(spec)

    def _action_names(self) -> list[str]:
        from actions.runner.catalogue import ACTION_SPECS

        return [name for name, spec in ACTION_SPECS.items() if spec.command_group == self._group]
