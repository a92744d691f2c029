"""Parses YAML with the line of every value, so that an error can name it.

Booleans are only `true` and `false`: YAML 1.1 would read the key `on` as true, and `02:00` as a number.
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Loc = tuple[str | int, ...]
MAX_NODES = 100_000  # aliases of aliases must not grow without end,
MAX_DEPTH = 32  # and an alias to itself must not recurse without end


class InvalidYaml(Exception):
    """The text is no YAML, or none that is accepted; `line` counts from 1, the message says what is wrong there."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A parsed document: its data, and the line of each key or list entry."""

    data: Any
    lines: dict[Loc, int]

    def line_of(self, loc: Loc) -> int:
        """The line of the nearest known place at or above `loc`."""
        for length in range(len(loc), -1, -1):
            if (line := self.lines.get(loc[:length])) is not None:
                return line
        return 1


class _StrictLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol


_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_StrictLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|)$"), ["~", "n", ""])
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?$"), list("-+0123456789")
)


def parse_yaml(text: str) -> YamlDocument:
    """The only document of `text`. Raises InvalidYaml for bad YAML, a duplicate key, or too many values."""
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlDocument(None, {})
        lines = dict(_walk_nodes(node))
        return YamlDocument(loader.construct_document(node), lines)
    except (yaml.MarkedYAMLError, yaml.reader.ReaderError) as error:
        raise _invalid_yaml(error) from error
    except RecursionError as error:
        raise InvalidYaml(1, f"not YAML: nested deeper than {MAX_DEPTH} levels") from error


def _invalid_yaml(error: yaml.MarkedYAMLError | yaml.reader.ReaderError) -> InvalidYaml:
    if isinstance(error, yaml.reader.ReaderError):
        return InvalidYaml(1, f"not YAML: {error.reason}")
    mark = error.problem_mark or error.context_mark
    problem = " ".join(part for part in (error.context, error.problem) if part)
    return InvalidYaml(mark.line + 1 if mark else 1, f"not YAML: {problem}")


def _walk_nodes(root: yaml.Node) -> Iterator[tuple[Loc, int]]:
    pending: list[tuple[Loc, int, yaml.Node]] = [((), root.start_mark.line + 1, root)]
    seen = 0
    while pending:
        loc, line, node = pending.pop()
        seen += 1
        if seen > MAX_NODES or len(loc) > MAX_DEPTH:
            raise InvalidYaml(
                line, f"more than {MAX_NODES} values or {MAX_DEPTH} levels; does an alias contain itself?"
            )
        yield loc, line
        if isinstance(node, yaml.MappingNode):
            pending += [((*loc, key), at, value) for key, at, value in _mapping_entries(node)]
        elif isinstance(node, yaml.SequenceNode):
            pending += [((*loc, i), value.start_mark.line + 1, value) for i, value in enumerate(node.value)]


def _mapping_entries(node: yaml.MappingNode) -> Iterator[tuple[str, int, yaml.Node]]:
    seen: dict[Hashable, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidYaml(line, "a key must be a plain word")
        if key.value in seen:
            raise InvalidYaml(line, f'the key "{key.value}" was given before, in line {seen[key.value]}')
        seen[key.value] = line
        yield key.value, line, value
