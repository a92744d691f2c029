"""What is in our documents: fenced blocks with their tags, commands inside sentences, links and the anchors they lead to.

A fence's first word is the language, the second says how it can be tried: `sh` is run as it is written, `sh service` is
started, `sh agent` is run while a service runs; `sh network`, `root`, `docker` and `kubernetes` are only looked at.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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
