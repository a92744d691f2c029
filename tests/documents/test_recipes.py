"""The command line accepts every command in the recipes, with its options."""

import re
import shlex
from pathlib import Path

import click
import pytest

from exporter.commands.main import main

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
CALL = re.compile(
    r"queuekeeper(?:\.exe)?\"?\\?\"? (?!\w+\.timer)((?:backups? |status |pause |resume |history )[^\n`]*)"
)


def recipe_commands() -> list[str]:
    text = "\n".join(re.findall(r"```\w+\n(.*?)```", RECIPES.read_text(), re.DOTALL))
    calls = [match[1].partition(" >")[0].rstrip('"') for match in CALL.finditer(text)]
    calls += re.findall(r'-Argument "([^"]*)"', text)
    return calls


def test_there_are_some_for_each_scheduler() -> None:
    assert len(recipe_commands()) >= 8


@pytest.mark.parametrize("call", recipe_commands())
def test_a_recipe_is_a_command_that_exists(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUEUEKEEPER_CONFIG", "/etc/queuekeeper/queuekeeper.yaml")
    words = shlex.split(call.replace("\\", "/").replace("%i", "jobs"))
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        name = words.pop(0)
        subcommand = command.get_command(context, name)
        assert subcommand is not None, name
        command = subcommand
    command.make_context("queuekeeper", words)
