"""Alertmanager's label matchers: `name="value"`, `!=`, `=~`, `!~`, regular expressions anchored at both ends.

The syntax of https://prometheus.io/docs/alerting/latest/configuration/#matcher; a label that is absent counts as empty.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",{}]*))\s*')
_ESCAPE = re.compile(r'\\([\\"n])')


@dataclass(frozen=True, slots=True)
class Matcher:
    """One matcher; `operator` is one of =, !=, =~, !~."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy it."""
        value = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (value == self.value) == (self.operator == "=")
        return bool(re.fullmatch(self.value, value, re.DOTALL)) == (self.operator == "=~")


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """The matchers of `a="b", c=~"d.*"`, with or without braces. Raises ValueError that names the problem."""
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1]
    matchers: list[Matcher] = []
    while rest.strip():
        match = _MATCHER.match(rest)
        if match is None:
            raise ValueError(f'not a matcher: {rest.strip()!r}; write alertname="QueueStaleLeases"')
        matchers.append(_build_matcher(match))
        rest = rest[match.end() :]
        if rest and not rest.startswith(","):
            raise ValueError(f"expected a comma before {rest!r}")
        rest = rest[1:]
    if not matchers:
        raise ValueError("no matcher given")
    return tuple(matchers)


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether every matcher is satisfied."""
    return all(matcher.matches(labels) for matcher in matchers)


def _build_matcher(match: re.Match[str]) -> Matcher:
    label, operator, quoted, bare = match.groups()
    value = bare if quoted is None else _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], quoted)
    if operator in ("=~", "!~"):
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"{label}: {value!r} is not a regular expression: {error}") from error
    return Matcher(label, operator, value)
