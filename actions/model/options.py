"""The options that an action takes, checked before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from actions.model.request import Option

ValueKind = Literal["seconds", "count", "flag", "word", "path", "text"]

# Beyond these a number would not arrive in the child as it was given: JSON has no infinity, SQLite counts to 2 to the 63.
MAX_SECONDS, MAX_COUNT = 1e10, 10**15

_EXPECTED: Mapping[ValueKind, str] = {
    "seconds": "a time in seconds",
    "count": "a whole number above 0",
    "flag": "true or false",
    "path": "a path",
    "text": "a text",
}


@dataclass(frozen=True, slots=True)
class ActionOption:
    """One option of an action: its kind, one sentence of help, the words it may be (for the kind `word`).

    `by_person`: only a person may give it, never a rule or a schedule. `on_command_line`: the command takes it;
    `positional`: as an argument there, not as an option. `example` and `default` are shown in the command's help.
    """

    kind: ValueKind
    help: str
    words: tuple[str, ...] = ()
    by_person: bool = False
    on_command_line: bool = True
    positional: bool = False
    example: str = ""
    default: str = ""


def option_problems(known: Mapping[str, ActionOption], given: Mapping[str, Option], *, automatic: bool) -> list[str]:
    """What is wrong with the given options, one sentence each; empty when nothing is."""
    problems = []
    for name, value in given.items():
        if name not in known:
            similar = get_close_matches(name, known, 1)
            hint = f'did you mean "{similar[0]}"? ' if similar else ""
            problems.append(f'"{name}" is not an option: {hint}known: {", ".join(sorted(known)) or "none"}')
        elif automatic and known[name].by_person:
            problems.append(f'"{name}" can only be given by a person on the command line')
        elif not _value_fits(known[name], value):
            problems.append(f'"{name}" cannot be {value!r}: it is {_expected_value(known[name])}')
    return problems


def _expected_value(option: ActionOption) -> str:
    return f"one of {', '.join(option.words)}" if option.kind == "word" else _EXPECTED[option.kind]


def _value_fits(option: ActionOption, value: Option) -> bool:
    if value is None:
        return True
    if option.kind == "flag":
        return isinstance(value, bool)
    if option.kind == "seconds":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS
    if option.kind == "count":
        return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT
    if option.kind == "word":
        return value in option.words
    return isinstance(value, str)
