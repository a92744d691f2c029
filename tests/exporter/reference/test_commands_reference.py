"""docs/commands.md is what the commands say, and every command has words."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from exporter.commands.main import main
from exporter.reference import commands


def test_the_reference_is_current() -> None:
    assert commands.DOCUMENT.read_text("utf-8") == commands.commands_document(), "run `make docs`"


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


def test_every_command_bears_its_name() -> None:
    assert {name: command.name for name, command in main.commands.items()} == {name: name for name in main.commands}


@pytest.mark.parametrize("name", ["status", "backup", "history"])
def test_a_command_that_needs_no_server_does_not_load_one(name: str) -> None:
    code = f"import sys; from exporter.commands.main import main; main.commands[{name!r}]; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert "exporter.commands.terminal" in loaded
    assert not loaded & {"starlette", "uvicorn", "jinja2", "exporter.agent", "exporter.demo"}
