"""Compiles an expression of a profile so that it is safe inside a fixed SQL frame. Pure.

Tokens become bound values: `@now` and `@ago(SETTING)` a moment in a column's format (`:FORMAT` after it, else the
profile's), `$SETTING` a number, a text or (inside `IN (...)`) a list. `@table`, `@suffix` and `{SETTING}name` become
quoted names. Any token that could end the frame is refused.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast, get_args

from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.quoting import quote_identifier, quote_literal
from collectors.queue_profiles.schema import TimeFormat
from collectors.queue_profiles.settings import ProfileSettings
from collectors.queue_profiles.time_formats import LOCAL_FORMATS, SqlValue, format_moment

_TOKEN_PATTERN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
      |(?P<place>@(?:table|suffix)\b)
      |(?P<moment>@(?P<kind>now|ago)\b(?:\((?P<setting>\w+)\))?(?::(?P<format>\w+))?)
      |\$(?P<bound>\w+)
      |(?P<name>\{(?P<named>\w+)\}(?P<rest>\w*))
      |(?P<refused>;|--|/\*|\?|:|@|\$|\#|\[|`|'|"|\{|\}|\x00|\b(?i:with)\b)
      |(?P<bracket>[()])""",
    re.VERBOSE,
)
_FORMAT_PATTERN = re.compile(r"^(.*):((?:unix|sql|iso)_\w+|\{\w+\})$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ExpressionScope:
    """The names that an expression may refer to: settings, the row set's table; and the profile's time format."""

    settings: ProfileSettings = field(default_factory=ProfileSettings)
    time_format: TimeFormat = "unix_s"
    table: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class BoundParameter:
    """One bound value: the moment `amount` seconds before `now` in a time format, or (no format) `amount` itself."""

    name: str
    amount: float | str
    time_format: TimeFormat | None = None
    zone: str = ""

    def value_at(self, now: float) -> SqlValue:
        """The value to bind at `now` (seconds since the epoch)."""
        if self.time_format is None or isinstance(self.amount, str):
            return self.amount
        return format_moment(now - self.amount, self.time_format, self.zone)


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL with named parameters. Equal tokens have equal names, so expressions can be joined."""

    sql: str
    parameters: tuple[BoundParameter, ...] = ()


def compile_expression(text: str, scope: ExpressionScope) -> Expression:
    """Compile one expression. Raises ProfileError that quotes what is wrong."""
    parts: list[str] = []
    parameters: list[BoundParameter] = []
    depth = end = 0
    for match in _TOKEN_PATTERN.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if match["refused"] or depth < 0:
            raise ProfileError(f"{text!r}: {match[0]!r} is not allowed here")
        sql, bound = _compile_token(match, scope, text)
        parts.append(sql)
        parameters += bound
    if depth:
        raise ProfileError(f"{text!r}: a bracket is not closed")
    return Expression("".join([*parts, text[end:]]), tuple(parameters))


def bound_values(parameters: Iterable[BoundParameter], now: float) -> dict[str, SqlValue]:
    """The values to bind at `now` (seconds since the epoch), by parameter name."""
    return {parameter.name: parameter.value_at(now) for parameter in parameters}


def parse_time_format(text: str, where: str) -> TimeFormat:
    """The time format of this name. Raises ProfileError, which quotes `where`."""
    if text not in get_args(TimeFormat):
        raise ProfileError(f"{where!r}: {text!r} is no time format; known: {', '.join(get_args(TimeFormat))}")
    return cast("TimeFormat", text)


def split_time_format(text: str, scope: ExpressionScope) -> tuple[str, TimeFormat]:
    """Split `EXPRESSION[:FORMAT]`; without a format the profile's is used. Raises ProfileError."""
    match = _FORMAT_PATTERN.match(text)
    if match is None:
        return text, _require_zone(scope.time_format, scope, text)
    return match[1], _require_zone(parse_time_format(fill_name(match[2], scope.settings), text), scope, text)


def fill_name(name: str, settings: ProfileSettings) -> str:
    """Replace the `{SETTING}` in a name by its value. Raises ProfileError when there is no such text setting."""

    def setting_text(match: re.Match[str]) -> str:
        if match[1] not in settings.texts:
            raise ProfileError(f"{name!r}: no text setting is called {match[1]!r}")
        return settings.texts[match[1]]

    return re.sub(r"\{(\w+)\}", setting_text, name)


def _compile_token(match: re.Match[str], scope: ExpressionScope, text: str) -> tuple[str, tuple[BoundParameter, ...]]:
    if match["quoted"] or match["bracket"]:
        return match[0], ()
    if match["place"]:
        return (quote_identifier(scope.table) if match[0] == "@table" else quote_literal(scope.suffix)), ()
    if match["name"]:
        return quote_identifier(fill_name(match[0], scope.settings)), ()
    bound = (
        _setting_parameters(match["bound"], scope, text) if match["bound"] else (_moment_parameter(match, scope, text),)
    )
    return ", ".join(f":{parameter.name}" for parameter in bound), bound


def _setting_parameters(name: str, scope: ExpressionScope, text: str) -> tuple[BoundParameter, ...]:
    settings = scope.settings
    if name in settings.words:
        return tuple(BoundParameter(f"setting_{name}_{i}", word) for i, word in enumerate(settings.words[name]))
    if name in settings.numbers:
        return (BoundParameter(f"setting_{name}", settings.numbers[name]),)
    if name in settings.texts:
        return (BoundParameter(f"setting_{name}", settings.texts[name]),)
    raise ProfileError(f"{text!r}: no setting is called {name!r}; known: {', '.join(settings.setting_names) or 'none'}")


def _moment_parameter(match: re.Match[str], scope: ExpressionScope, text: str) -> BoundParameter:
    setting = match["setting"]
    if (match["kind"] == "ago") != (setting is not None):
        raise ProfileError(f"{text!r}: write @now or @ago(SETTING)")
    if setting is not None and setting not in scope.settings.numbers:
        known = ", ".join(scope.settings.numbers) or "none"
        raise ProfileError(f"{text!r}: no setting is called {setting!r} and is a number; known: {known}")
    time_format = _require_zone(
        parse_time_format(match["format"], text) if match["format"] else scope.time_format, scope, text
    )
    name = f"{match['kind']}_{setting}_{time_format}" if setting else f"now_{time_format}"
    return BoundParameter(
        name, scope.settings.numbers[setting] if setting else 0.0, time_format, scope.settings.zone_name
    )


def _require_zone(time_format: TimeFormat, scope: ExpressionScope, text: str) -> TimeFormat:
    if time_format in LOCAL_FORMATS and not scope.settings.zone_name:
        raise ProfileError(f"{text!r}: {time_format} needs a setting `time_zone` of kind time_zone")
    return time_format
