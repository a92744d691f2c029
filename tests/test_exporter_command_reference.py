"""docs/commands.md is what the commands say, and every command has words."""

from collections.abc import Iterator

import click

from exporter.commands import reference
from exporter.commands.main import main


def test_the_reference_is_current() -> None:
    assert reference.DOCUMENT.read_text("utf-8") == reference.text(), "run `make docs`"


def every_command(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from every_command(command)


def test_every_command_and_option_says_what_it_does() -> None:
    for command in every_command(main):
        assert command.help, command.name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{command.name} {option.opts}"
