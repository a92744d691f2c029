"""Text for a terminal that others had a hand in: names of files, of queues and of processes, messages about them.

A terminal obeys what it is shown: an escape in a file's name can rewrite what stands above it, or its title. So control
characters are told by their escapes, and so is what turns the order of letters around. Lines and columns stay.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def escape_control_characters(text: str) -> str:
    """The same text, with nothing in it that a terminal would obey."""
    return _CONTROL_CHARACTERS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@contextmanager
def escape_terminal_output() -> Iterator[None]:
    """What is written to a terminal is plain; what goes into a file or a pipe stays as it is."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _EscapingTerminal(one)) if one.isatty() else one for one in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unwrap_terminal(stream: TextIO) -> TextIO:
    """For who draws on the terminal (bars, bold letters), and sees to its texts by `plain`."""
    return cast("TextIO", getattr(stream, "terminal", stream))


class _EscapingTerminal:
    """A terminal, written to in plain text; else all that it is."""

    def __init__(self, terminal: TextIO) -> None:
        self.terminal = terminal

    def write(self, text: str) -> int:
        return self.terminal.write(escape_control_characters(text))

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)
