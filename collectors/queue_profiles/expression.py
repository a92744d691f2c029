"""An expression of a profile, made safe to stand inside a fixed SQL frame. Pure.

Tokens become bound values: `@now` and `@ago(SETTING)` a moment in a column's format (`:FORMAT` after it, else the
profile's), `$SETTING` a number. Anything that could leave the frame is refused.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast, get_args

from collectors.queue_profiles.schema import ProfileError, TimeFormat
from collectors.queue_profiles.time_formats import Value, written

_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
      |(?P<moment>@(?P<kind>now|ago)(?:\((?P<setting>\w+)\))?(?::(?P<format>\w+))?)
      |\$(?P<number>\w+)
      |(?P<refused>;|--|/\*|\?|:|@|\$|\#|\[|`|'|")
      |(?P<bracket>[()])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One bound value: the moment `now` minus a setting in a time format, or (no format) the setting's number."""

    name: str
    setting: str | None
    form: TimeFormat | None


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL with named parameters. Equal tokens have equal names, so expressions can be put together."""

    sql: str
    parameters: tuple[Parameter, ...] = ()


def expression(text: str, settings: Mapping[str, float], form: TimeFormat) -> Expression:
    """Compile one expression. Raises ProfileError that quotes what is wrong."""
    parts: list[str] = []
    parameters: list[Parameter] = []
    depth = end = 0
    for match in _TOKEN.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if match["refused"] or depth < 0:
            raise ProfileError(f"{text!r}: {match[0]!r} is not allowed here")
        if match["quoted"] or match["bracket"]:
            parts.append(match[0])
            continue
        parameter = _parameter(match, settings, form, text)
        parameters.append(parameter)
        parts.append(":" + parameter.name)
    if depth:
        raise ProfileError(f"{text!r}: a bracket is not closed")
    return Expression("".join([*parts, text[end:]]), tuple(parameters))


def values(parameters: Iterable[Parameter], now: float, settings: Mapping[str, float]) -> dict[str, Value]:
    """What to bind at `now` (seconds since the epoch)."""
    bound: dict[str, Value] = {}
    for parameter in parameters:
        amount = settings[parameter.setting] if parameter.setting else 0.0
        bound[parameter.name] = amount if parameter.form is None else written(now - amount, parameter.form)
    return bound


def time_format(text: str, where: str) -> TimeFormat:
    """The format of this name. Raises ProfileError."""
    if text not in get_args(TimeFormat):
        raise ProfileError(f"{where!r}: {text!r} is no time format; known: {', '.join(get_args(TimeFormat))}")
    return cast("TimeFormat", text)


def _parameter(match: re.Match[str], settings: Mapping[str, float], form: TimeFormat, text: str) -> Parameter:
    setting = match["number"] or match["setting"]
    if match["moment"] and (match["kind"] == "ago") != (setting is not None):
        raise ProfileError(f"{text!r}: write @now or @ago(SETTING)")
    if setting is not None and setting not in settings:
        raise ProfileError(f"{text!r}: no setting is called {setting!r}; known: {', '.join(settings) or 'none'}")
    if match["number"]:
        return Parameter(f"setting_{setting}", setting, None)
    form = time_format(match["format"], text) if match["format"] else form
    return Parameter(f"{match['kind']}_{setting}_{form}" if setting else f"now_{form}", setting, form)
