"""What is in our documents: fenced blocks with their tags, commands inside sentences, links and the anchors they lead to.

A fence's first word is the language, the second says how it can be tried: `sh` is run as it is written, `sh service` is
started, `sh agent` is run while a service runs; `sh network`, `root`, `docker` and `kubernetes` are only looked at.
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
    """One fenced block; `line` is where it begins."""

    file: Path
    line: int
    tag: str
    text: str

    @property
    def where(self) -> str:
        """For a test's name."""
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def blocks(file: Path) -> list[Block]:
    """All fenced blocks, in order."""
    text = file.read_text()
    return [
        Block(file, text[: found.start()].count("\n") + 1, found[1].strip(), found[2])
        for found in _FENCE.finditer(text)
    ]


def commands_in_sentences(file: Path) -> list[str]:
    """Whole commands of ours that the prose tells to type, each once."""
    prose = _FENCE.sub("", file.read_text())
    return list(dict.fromkeys(_COMMAND.findall(prose)))


def links(file: Path) -> list[str]:
    """Where links and pictures lead."""
    return [one or other for one, other in _LINK.findall(_FENCE.sub("", file.read_text()))]


def anchors(file: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exists(command: str) -> bool:
    """Whether this version has the command: documents know those of the next one."""
    group: click.Command | None = main
    for word in shlex.split(command)[1:]:
        if not isinstance(group, click.Group):
            return True
        group = group.commands.get(word)
        if group is None:
            return False
    return True


def parse(command: str) -> None:
    """Raises click's UsageError for an unknown option or a missing argument."""
    group: click.Command = main
    context = click.Context(main)
    words = shlex.split(command)[1:]
    while isinstance(group, click.Group) and words:
        found = group.commands.get(words[0])
        if found is None:
            return
        group, words = found, words[1:]
    if isinstance(group, click.Group) or "--help" in words:
        return
    try:
        group.make_context(group.name or "", words, parent=context, resilient_parsing=False)
    except click.MissingParameter:
        pass  # `queuekeeper stats` in a sentence about the command itself
    finally:
        context.close()
