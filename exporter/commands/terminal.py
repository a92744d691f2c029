"""A group of commands whose errors are one line each, click's own too: what is wrong, and where to read on."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from actions.model.outcome import USAGE_ERROR
from exporter.commands.plain import escape_terminal_output


class OneLineErrorGroup(click.Group):
    """Like click's, but a wrong option or argument does not print the usage around its error."""

    def main(  # type: ignore[override] # click's own returns Any outside of its standalone mode, which is not used
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run, and exit with the command's exit code."""
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
