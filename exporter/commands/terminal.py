"""What the command line writes to a terminal: errors of one line each, and no character that a terminal would obey.

File names, queue names, process names and messages come from others. An escape sequence in a file's name could rewrite the line
above it or the window's title, so control characters are printed as their escapes. Lines and tabs stay.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO, cast

import click

from actions.model.outcome import USAGE_ERROR

# What a terminal acts on instead of showing it: control characters, and what reverses the order of letters.
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class OneLineErrorGroup(click.Group):
    """A group of commands that prints a wrong option or argument as one line, without the usage that click adds."""

    def main(  # type: ignore[override] # click's own returns Any outside of its standalone mode, which is not used
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run the command line, and exit with the command's exit code."""
        with escape_terminal_output():
            self._run_command(args, prog_name, **extra)

    def _run_command(self, args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> NoReturn:
        try:
            returned = super().main(args, prog_name, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(USAGE_ERROR)
        except click.UsageError as error:
            click.echo(f"Error: {_usage_error_line(error)}", err=True)
            sys.exit(USAGE_ERROR)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("aborted: nothing was changed", err=True)
            sys.exit(1)
        sys.exit(returned if isinstance(returned, int) else 0)


def _usage_error_line(error: click.UsageError) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.MissingParameter) and error.param is not None and error.param.envvar:
        message += f", nor {error.param.envvar} in the environment"
    return message if error.ctx is None else f"{message} (see: {error.ctx.command_path} --help)"


def escape_control_characters(text: str) -> str:
    """The same text, with its control characters written as escapes."""
    return _CONTROL_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


@contextmanager
def escape_terminal_output() -> Iterator[None]:
    """While it is open, escape what is written to a terminal; output to a file or a pipe is not changed."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        cast("TextIO", _EscapingTerminal(stream)) if stream.isatty() else stream for stream in before
    )
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unwrap_terminal(stream: TextIO) -> TextIO:
    """The terminal itself, for code that draws on it (bars, bold letters) and escapes its texts."""
    return cast("TextIO", getattr(stream, "terminal", stream))


class _EscapingTerminal:
    """A terminal to which control characters are written as escapes; all other attributes are the terminal's own."""

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal

    def write(self, text: str) -> int:
        return self.terminal.write(escape_control_characters(text))

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)
