"""`queuekeeper hash-password`: prints a hash for `basic_auth_users` of the web configuration file."""

import sys

import bcrypt
import click

from exporter.commands.database_argument import UsageProblem

# bcrypt uses at most this many bytes: https://www.usenix.org/legacy/events/usenix99/provos/provos.pdf
MAX_BYTES = 72


@click.command("hash-password")
@click.option(
    "--cost",
    type=click.IntRange(4, 18),
    default=12,
    show_default=True,
    help="Each step doubles the time that a guess takes; 12 is about a quarter of a second.",
)
def hash_password(cost: int) -> None:
    """Prompt for a password, or read it from a pipe, and print its bcrypt hash for `basic_auth_users`."""
    password = _prompt_password() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise UsageProblem("no password was given; type one, or pipe it in on one line")
    if len(password.encode()) > MAX_BYTES or "\0" in password:
        raise UsageProblem(f"bcrypt takes at most {MAX_BYTES} bytes and no NUL; choose a shorter one")
    click.echo(bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode())


def _prompt_password() -> str:
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
