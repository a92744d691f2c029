"""Writes docs/commands.md from the commands: `python -m exporter.reference.commands [--check]`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from exporter.commands.main import main as root

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "commands.md"
_HEAD = """# Commands

Generated from the commands by `python -m exporter.reference.commands`; do not edit.

`DB` is a path, or a configured name where `--config.file FILE` (or `QUEUEKEEPER_CONFIG`) is given. A command that runs an
action takes `--dry-run`, and ends with the exit code of its outcome:

| outcome | exit |
| --- | --- |
| `done`, `nothing_to_do` | 0 |
| `failed`, `cancelled`, `interrupted` | 1 |
| usage or configuration error | 2 |
| `refused` (by a guard; the message says why and the next step) | 3 |
| `locked`, `blocked` (the message names the process) | 4 |
| `unverified` | 5 |

`--json` of such a command prints one object: `run` (its number in history), `database`, `action`, `outcome`, `reason`
(a short stable word), `message`, `next_step`, `plan` (a list of sentences), `figures` (numbers in bytes, seconds and rows, by
the action), `seconds`. That of `pause` prints `paused`, `why`, and two lists of runs: `stopped` and `finishing` (each with
`run`, `database`, `action`, `state`, `outcome`); that of `cancel` such a run and `ended`; that of `resume` `paused` and `why`.
Consumers must ignore unknown fields.
"""


def commands_document() -> str:
    """The text of docs/commands.md."""
    return "\n".join([_HEAD, *_command_sections(root, "queuekeeper")])


def _command_sections(group: click.Group, path: str) -> Iterator[str]:
    for name in sorted(group.commands):
        command = group.commands[name]
        yield from _command_section(command, f"{path} {name}")
        if isinstance(command, click.Group):
            yield from _command_sections(command, f"{path} {name}")


def _command_section(command: click.Command, path: str) -> Iterator[str]:
    words = " ".join(_argument_name(param) for param in command.params if isinstance(param, click.Argument))
    yield f"## `{path}{' ' + words if words else ''}`\n"
    yield f"{_join_paragraphs(command.help or '')}\n"
    options = [param for param in command.params if isinstance(param, click.Option)]
    if options:
        yield "| option | meaning |\n| --- | --- |"
        yield "\n".join(_option_row(option) for option in options) + "\n"


def _argument_name(argument: click.Argument) -> str:
    return argument.make_metavar(click.Context(root))


def _option_row(option: click.Option) -> str:
    metavar = "" if option.is_flag else " " + option.make_metavar(click.Context(root)).replace("|", "\\|")
    return f"| `{', '.join(option.opts)}{metavar}` | {option.help or ''} |"


def _join_paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def write_document(check: bool) -> int:
    """Write the document, or with `check` only compare it; returns the exit code, 1 when it is not current."""
    current = DOCUMENT.exists() and DOCUMENT.read_text("utf-8") == commands_document()
    if check and not current:
        click.echo("docs/commands.md does not match the commands; run `make docs`", err=True)
        return 1
    if not current:
        DOCUMENT.write_text(commands_document(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(write_document("--check" in sys.argv[1:]))
