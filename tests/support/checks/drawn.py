"""What the pictures of the dashboards show (docs/pictures/drawn.json), beside what the demo tells."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tests.support.checks.documents import ROOT

PICTURES = ROOT / "docs" / "pictures"
FACTS: dict[str, Any] = json.loads((PICTURES / "drawn.json").read_text())
# What a loaded machine adds or leaves out is no scene: a try that met another one, a state between two others.
SCENES = {"done", "blocked", "refused"}
HELPED = {"fixed", "blocked"}

_STATUS = re.compile(r"queuekeeper status -> exit 0\n((?: +[\d.]+ s {6}.*\n)+)")
_UNREADABLE = re.compile(r"is no SQLite database|cannot be read")
_DATABASE = re.compile(r"^ +[\d.]+ s {6}(\w+): (.*)$", re.MULTILINE)
_RUN = re.compile(r"#\d+ \w+ (\w+): (\w+) in (?:[^;]*effect (\w+)[^;]*; .*? of rule ([\w-]+))?")


@dataclass(frozen=True, slots=True)
class Story:
    """What happens: names of databases, (action, outcome), (rule, effect), names of alerts."""

    databases: frozenset[str]
    unreadable: frozenset[str]
    states: frozenset[str]
    actions: frozenset[tuple[str, str]]
    effects: frozenset[tuple[str, str]]
    alerts: frozenset[str]


def story(told: str) -> Story:
    """What a demo told."""
    status = _STATUS.search(told)
    databases = _DATABASE.findall(status[1]) if status else []
    runs = _RUN.findall(told)
    return Story(
        databases=frozenset(name for name, _ in databases),
        unreadable=frozenset(name for name, words in databases if _UNREADABLE.search(words)),
        states=frozenset(re.findall(r"sqlite_wal_state is (pinned)", told)),
        actions=frozenset((action, outcome) for action, outcome, _, _ in runs if outcome in SCENES),
        effects=frozenset((rule, effect) for _, _, effect, rule in runs if effect in HELPED),
        alerts=frozenset(re.findall(r"the alert (\w+) fires", told)),
    )


def differences(told: Story, facts: Mapping[str, Any]) -> list[str]:
    """What only one of them has, in a line each. Alerts that only Prometheus sees are no scene: it has all rules."""
    return [*_lines("the demo tells of", told, pictured(facts)), *_lines("the pictures show", pictured(facts), told)]


def pictured(facts: Mapping[str, Any]) -> Story:
    """The same of the pictures."""
    return Story(
        databases=frozenset(facts["databases"]),
        unreadable=frozenset(facts["unreadable"]),
        states=frozenset(facts["wal_states"]) & {"pinned"},
        actions=frozenset((action, outcome) for action, outcome in facts["actions"] if outcome in SCENES),
        effects=frozenset((rule, effect) for rule, effect in facts["effects"] if effect in HELPED),
        alerts=frozenset(facts["alerts"]),
    )


def _lines(words: str, one: Story, other: Story) -> Iterator[str]:
    for field in fields(Story):
        if words == "the pictures show" and field.name == "alerts":
            continue
        only = getattr(one, field.name) - getattr(other, field.name)
        for each in sorted(only):
            kind = field.name.removesuffix("s")
            yield f"{words} {kind} {each if isinstance(each, str) else ' '.join(each)}"


def quoted(line: str) -> str:
    """A pattern for a line of a demo as a document quotes it: any number for its numbers, anything for its dots."""
    parts = re.split(r"(\s*\.\.\.\s*|\d[\d.]*\d|\d)", line.strip())
    return "".join(".*" if "..." in part else r"[\d.]+" if part[:1].isdigit() else re.escape(part) for part in parts)
