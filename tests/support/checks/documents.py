"""Reads our documents: fenced blocks with their tags, commands inside sentences, links and the anchors of headings.

A fence's first word is the language, the second says how it is tested: `sh` is run as it is written, `sh service` is
started, `sh agent` is run while a service runs; `sh network`, `root`, `docker` and `kubernetes` are only parsed.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click

from exporter.commands.main import main

ROOT = Path(__file__).resolve().parents[3]
LOOKED_AT = {"network", "root", "docker", "kubernetes"}
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?<!`)`(queuekeeper [^`\n]+)`(?!`)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document, with the line on which it begins."""

    file: Path
    line: int
    tag: str
    text: str

    @property
    def where(self) -> str:
        """The place in the form FILE:LINE, for a test's name."""
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def fenced_blocks(file: Path) -> list[Block]:
    """Returns all fenced blocks of a document, in order."""
    text = file.read_text()
    return [
        Block(file, text[: fence.start()].count("\n") + 1, fence[1].strip(), fence[2])
        for fence in _FENCE.finditer(text)
    ]


def commands_in_sentences(file: Path) -> list[str]:
    """Returns the queuekeeper commands that the prose quotes, each once."""
    prose = _FENCE.sub("", file.read_text())
    return list(dict.fromkeys(_COMMAND.findall(prose)))


def link_targets(file: Path) -> list[str]:
    """Returns the targets of links and pictures."""
    return [link or picture for link, picture in _LINK.findall(_FENCE.sub("", file.read_text()))]


def heading_anchors(file: Path) -> set[str]:
    """Returns the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_known_command(command: str) -> bool:
    """Tells whether this version has the command: documents may name those of the next one."""
    group: click.Command | None = main
    for word in shlex.split(command)[1:]:
        if not isinstance(group, click.Group):
            return True
        group = group.commands.get(word)
        if group is None:
            return False
    return True


def parse_command(command: str) -> None:
    """Parses a command; raises click's UsageError for an unknown option or a missing argument."""
    group: click.Command = main
    context = click.Context(main)
    words = shlex.split(command)[1:]
    while isinstance(group, click.Group) and words:
        subcommand = group.commands.get(words[0])
        if subcommand is None:
            return
        group, words = subcommand, words[1:]
    if isinstance(group, click.Group) or "--help" in words:
        return
    try:
        group.make_context(group.name or "", words, parent=context, resilient_parsing=False)
    except click.MissingParameter:
        pass  # `queuekeeper stats` in a sentence about the command itself
    finally:
        context.close()
