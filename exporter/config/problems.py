"""Errors of the configuration as lines: `FILE:LINE: databases[1].path: what is wrong, why, next step`."""

import difflib
import typing
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exporter.config.schema import ConfigFile
from exporter.config.sizes import quote_value
from exporter.config.yaml_positions import Loc, YamlDocument

_EXPECTED = {
    "name": "letters, digits, dot, dash and underscore, at most 64",
    "owner_sqlite": "three numbers, like 3.51.3",
    "windows": "two times of day, like 02:00-04:00",
}


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """An error at one place of the document, as a sentence."""

    loc: Loc
    message: str


class ConfigErrors(Exception):
    """All errors of a configuration file; `lines` are sentences, each with its place."""

    def __init__(self, lines: Collection[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


def problem_lines(path: Path, document: YamlDocument, problems: Collection[ConfigProblem]) -> tuple[str, ...]:
    """One line for each problem, in the order of the file."""
    placed = sorted(((document.line_of(p.loc), p) for p in problems), key=lambda pair: pair[0])
    return tuple(f"{path}:{line}: {_location_label(p.loc)}{p.message}" for line, p in placed)


def schema_problems(error: ValidationError, model: type[BaseModel] = ConfigFile) -> tuple[ConfigProblem, ...]:
    """pydantic's errors of the first stage as problems in plain words; `model` describes the whole file."""
    return tuple(
        ConfigProblem(tuple(detail["loc"]), _describe_error(detail, model))
        for detail in error.errors(include_url=False)
    )


def unknown_name(what: str, value: str, known: Collection[str]) -> str:
    """`"chekpoint" is not an action; did you mean "checkpoint"? known: backup, checkpoint`."""
    return f"{quote_value(value)} is not {what}; {suggest_name(value, known)}"


def suggest_name(value: str, known: Collection[str]) -> str:
    """The nearest known word, then all known words (of many only the nearest)."""
    near = difflib.get_close_matches(value, known, n=5, cutoff=0.6)
    listed = sorted(known) if len(known) <= 20 else (near or sorted(known)[:10])
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f"{hint}known: {', '.join(listed) or 'none'}" + (", ..." if len(known) > len(listed) else "")


def _location_label(loc: Loc) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return f"{text}: " if text else ""


def _describe_error(detail: ErrorDetails, whole: type[BaseModel]) -> str:
    kind, value, loc = detail["type"], detail["input"], detail["loc"]
    if kind == "extra_forbidden":
        return f"unknown key; {suggest_name(str(loc[-1]), _known_keys(loc[:-1], whole))}"
    if kind == "missing":
        return "is missing; it must be given"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    if kind == "literal_error":
        return f"{quote_value(value)} is not known; write {detail['ctx']['expected']}"
    if kind == "string_type":
        return _describe_non_text(value)
    if kind == "string_pattern_mismatch":
        expected = next((_EXPECTED[str(p)] for p in reversed(loc) if p in _EXPECTED), detail["msg"])
        return f"{quote_value(value)} does not fit; write {expected}"
    return f"{quote_value(value)}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"


def _describe_non_text(value: object) -> str:
    if isinstance(value, bool | int | float):
        return f'{quote_value(value)} is read as a number or a truth value; put it in quotes: "{value}"'
    return "is empty; write a text" if value is None else f"{quote_value(value)} is not a text"


def _known_keys(loc: Loc, whole: type[BaseModel]) -> tuple[str, ...]:
    model = whole
    for part in loc:
        field = next((f for name, f in model.model_fields.items() if part == (f.alias or name)), None)
        if field is not None:
            model = _inner_model(field.annotation) or model
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _inner_model(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((part for arg in typing.get_args(annotation) if (part := _inner_model(arg)) is not None), None)
