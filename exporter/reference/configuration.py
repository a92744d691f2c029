"""Writes docs/configuration.md from the schema and WORDS: `python -m exporter.reference.configuration [--check]`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from collectors.target import Limits
from exporter.alert_rules.thresholds import written
from exporter.config.example import example_text
from exporter.config.key_descriptions import WORDS
from exporter.config.schema import Budget, Chosen, Duration, File, Level, Size
from exporter.config.sizes import Growth

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "configuration.md"
_HEAD = """# Configuration

Generated from the schema by `python -m exporter.reference.configuration`; do not edit. One YAML file, given by
`--config.file`. Unknown keys are errors with their place, cause and a suggestion; all errors are told at once.
`queuekeeper config check FILE` reads it as `serve` would, `queuekeeper config schema` prints a JSON Schema for editors,
`queuekeeper config explain FILE` says what it means for each database now.

Sizes are written `64MiB` or `1GB`, durations `50ms`, `15s`, `10m`, `26h` or `7d`, shares `25%`. Relative paths begin at
the folder of the file. SIGHUP or `POST /-/reload` reads it again; a refused file leaves the last good one in use.
"""
_KINDS: tuple[tuple[Any, str], ...] = (
    (Duration, "duration"), (Size, "size"), (Level, "level"), (Budget, "size, share or `max(size, share)`"),
    (Chosen, "level or text"), (bool, "true or false"), (int, "number"), (float, "number"), (str, "text"),
)  # fmt: skip


def text() -> str:
    """The whole document."""
    table = ["| key | written as | default | meaning |", "| --- | --- | --- | --- |"]
    rows = [f"| `{key}` | {kind} | {default} | {WORDS[key]} |" for key, kind, default in described()]
    example = [
        "",
        "## Example",
        "",
        "`queuekeeper config example` prints it:",
        "",
        "```yaml config",
        example_text(),
        "```",
    ]
    return "\n".join([_HEAD, *table, *rows, *example, ""]).replace("\n\n```\n", "\n```\n")


def described() -> Iterator[tuple[str, str, str]]:
    """(key, how it is written, default) of every key of the file, a list's entries as `key[]`."""
    limits = {f"limits.{name}": f"`{value}`" for name, value in _limits().items()}
    yield from ((key, kind, limits.get(key, default)) for key, kind, default in _keys(File, ""))


def _limits() -> dict[str, str]:
    """The budgets that hold where the file says nothing."""
    limits = Limits()
    growth = f"max({written(limits.wal_growth_bytes, 'bytes')}, {written(limits.wal_growth_ratio, 'ratio')})"
    names = ("write_lock", "checkpoint_wait", "read_wal", "read_rollback")
    seconds = {name: written(getattr(limits, name), "seconds") for name in names}
    return {**seconds, "wal_growth": growth, "disk_reserve": written(limits.disk_reserve, "bytes")}


def _keys(part: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in part.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner, ending = _inner(field.annotation)
        if inner is not None:
            yield key + ending, "", _default(field)
            yield from _keys(inner, f"{key}{ending}.")
        else:
            yield key, _kind(field), _default(field)


def _inner(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The part that a key holds, and `[]` for a list of them, `.NAME` for a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    endings: dict[Any, str] = {list: "[]", dict: ".NAME"}
    for argument in get_args(annotation):
        inner, _ = _inner(argument)
        if inner is not None:
            return inner, endings.get(get_origin(annotation), "")
    return None, ""


def _kind(field: FieldInfo) -> str:
    given = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return _named(given, field.annotation)


def _named(given: Any, plain: Any) -> str:
    for kind, words in _KINDS:
        if given == kind or _same(given, kind):
            return words
    origin, arguments = get_origin(plain), [each for each in get_args(plain) if each is not type(None)]
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_named(arguments[0], arguments[0])}s"
    if origin is dict:
        return f"mapping of names to {_named(arguments[1], arguments[1])}s"
    if origin in (Union, UnionType, Annotated):
        return _named(arguments[0], arguments[0])
    return "option" if plain is Any else _named(plain, Any)


def _same(given: Any, kind: Any) -> bool:
    """Whether `given` is `kind` with more said about it: bounds, a pattern."""
    if get_origin(given) is not Annotated:
        return False
    if get_origin(kind) is not Annotated:
        return bool(get_args(given)[0] is kind)
    return set(map(id, kind.__metadata__)) <= set(map(id, given.__metadata__))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value in (None, PydanticUndefined) or isinstance(value, Growth):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{written(value, 'ratio' if _kind(field) == 'level' else 'seconds')}`"
    return f"`{value}`"


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when the document is not up to date.")
def main(check: bool) -> None:
    """Write docs/configuration.md, or check that it is up to date."""
    if not check:
        DOCUMENT.write_text(text(), "utf-8")
    elif not DOCUMENT.exists() or DOCUMENT.read_text("utf-8") != text():
        click.echo(f"{DOCUMENT} is not up to date; run: python -m exporter.reference.configuration", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
