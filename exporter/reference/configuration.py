"""Writes docs/configuration.md: `python -m exporter.reference.configuration [--check]`.

It is made from the schema, the descriptions of its keys and the specs of the actions.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from actions.runner.catalogue import ACTION_SPECS
from actions.spec import ActionSpec
from collectors.target import Limits
from exporter.alert_rules.thresholds import format_in_unit
from exporter.config.key_descriptions import KEY_DESCRIPTIONS
from exporter.config.load import example_text
from exporter.config.schema import Budget, ConfigFile, Duration, Level, SettingValue, Size
from exporter.config.sizes import GrowthBudget

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "configuration.md"
_HEAD = """# Configuration

Generated from the schema by `python -m exporter.reference.configuration`; do not edit. One YAML file, given by
`--config.file`. Unknown keys are errors with their place, cause and a suggestion; all errors are reported at once.
`queuekeeper config check FILE` reads it as `serve` would, `queuekeeper config schema` prints a JSON Schema for editors,
`queuekeeper config explain FILE` says what it means for each database now.

Sizes are written `64MiB` or `1GB`, durations `50ms`, `15s`, `10m`, `26h` or `7d`, shares `25%`. Relative paths begin at
the folder of the file. SIGHUP or `POST /-/reload` reads it again; after an error the last good configuration stays in use.
"""
_KINDS: tuple[tuple[Any, str], ...] = (
    (Duration, "duration"), (Size, "size"), (Level, "level"), (Budget, "size, share or `max(size, share)`"),
    (SettingValue, "level or text"), (bool, "true or false"), (int, "number"), (float, "number"), (str, "text"),
)  # fmt: skip


def configuration_document() -> str:
    """The text of docs/configuration.md."""
    table = ["| key | written as | default | meaning |", "| --- | --- | --- | --- |"]
    rows = [f"| `{key}` | {kind} | {default} | {KEY_DESCRIPTIONS[key]} |" for key, kind, default in describe_keys()]
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
    return "\n".join([_HEAD, *table, *rows, *_action_section(), *example, ""]).replace("\n\n```\n", "\n```\n")


def describe_keys() -> Iterator[tuple[str, str, str]]:
    """(key, how it is written, default) of every key of the file, a list's entries as `key[]`."""
    limits = {f"limits.{name}": f"`{value}`" for name, value in _default_limits().items()}
    yield from ((key, kind, limits.get(key, default)) for key, kind, default in _walk_keys(ConfigFile, ""))


def _action_section() -> list[str]:
    """What a rule or a schedule may name in `do` and `options`, from the specs of the actions."""
    head = ["", "## Actions", "", "What `do` may name, and the `options` that it takes in a rule or a schedule:", ""]
    table = ["| action | runs automatically | options |", "| --- | --- | --- |"]
    specs = (spec for spec in ACTION_SPECS.values() if spec.automatic)
    return [*head, *table, *(f"| `{spec.name}` | {_bounds(spec)} | {_options(spec)} |" for spec in specs)]


def _bounds(spec: ActionSpec) -> str:
    """What an automatic run of the action needs."""
    needs = [
        words
        for needed, words in (
            (spec.needs_window, "inside its window"),
            (spec.needs_fresh_backup, "after a fresh verified backup"),
            (spec.backup_directory == "required", "where `backup.directory` is given"),
        )
        if needed
    ]
    return ", ".join(needs) or "at any time"


def _options(spec: ActionSpec) -> str:
    options = {name: option for name, option in spec.options.items() if not option.by_person}
    return "<br>".join(f"`{name}`: {option.help}" for name, option in options.items())


def _default_limits() -> dict[str, str]:
    """The default of each budget of `limits`, as it would be written."""
    limits = Limits()
    growth = (
        f"max({format_in_unit(limits.wal_growth_bytes, 'bytes')}, {format_in_unit(limits.wal_growth_ratio, 'ratio')})"
    )
    names = ("write_lock", "checkpoint_wait", "read_wal", "read_rollback")
    seconds = {name: format_in_unit(getattr(limits, name), "seconds") for name in names}
    return {**seconds, "wal_growth": growth, "disk_reserve": format_in_unit(limits.disk_reserve, "bytes")}


def _walk_keys(part: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in part.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        inner, ending = _inner_part(field.annotation)
        if inner is not None:
            yield key + ending, "", _default_in_words(field)
            yield from _walk_keys(inner, f"{key}{ending}.")
        else:
            yield key, _value_kind(field), _default_in_words(field)


def _inner_part(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """(the part that a key holds, or None; `[]` for a list of parts, `.NAME` for a mapping)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    endings: dict[Any, str] = {list: "[]", dict: ".NAME"}
    for argument in get_args(annotation):
        inner, _ = _inner_part(argument)
        if inner is not None:
            return inner, endings.get(get_origin(annotation), "")
    return None, ""


def _value_kind(field: FieldInfo) -> str:
    given = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return _kind_in_words(given, field.annotation)


def _kind_in_words(given: Any, plain: Any) -> str:
    for kind, words in _KINDS:
        if given == kind or _is_same_kind(given, kind):
            return words
    origin, arguments = get_origin(plain), [each for each in get_args(plain) if each is not type(None)]
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_kind_in_words(arguments[0], arguments[0])}s"
    if origin is dict:
        return f"mapping of names to {_kind_in_words(arguments[1], arguments[1])}s"
    if origin in (Union, UnionType, Annotated):
        return _kind_in_words(arguments[0], arguments[0])
    return "option" if plain is Any else _kind_in_words(plain, Any)


def _is_same_kind(given: Any, kind: Any) -> bool:
    """Whether `given` is `kind` with further annotations: bounds, a pattern."""
    if get_origin(given) is not Annotated:
        return False
    if get_origin(kind) is not Annotated:
        return bool(get_args(given)[0] is kind)
    return set(map(id, kind.__metadata__)) <= set(map(id, given.__metadata__))


def _default_in_words(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value in (None, PydanticUndefined) or isinstance(value, GrowthBudget):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{format_in_unit(value, 'ratio' if _value_kind(field) == 'level' else 'seconds')}`"
    return f"`{value}`"


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when the document is not up to date.")
def main(check: bool) -> None:
    """Write docs/configuration.md, or check that it is up to date."""
    if not check:
        DOCUMENT.write_text(configuration_document(), "utf-8")
    elif not DOCUMENT.exists() or DOCUMENT.read_text("utf-8") != configuration_document():
        click.echo(f"{DOCUMENT} is not up to date; run: python -m exporter.reference.configuration", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
