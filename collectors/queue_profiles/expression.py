"""An expression of a profile, made safe to stand inside a fixed SQL frame. Pure.

Tokens become bound values: `@now` and `@ago(SETTING)` a moment in a column's format (`:FORMAT` after it, else the
profile's), `$SETTING` a number, a text or (inside `IN (...)`) a list. `@table`, `@suffix` and `{SETTING}name` become
quoted names. Anything that could leave the frame is refused.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast, get_args

from collectors.queue_profiles.schema import ProfileError, TimeFormat
from collectors.queue_profiles.settings import Settings
from collectors.queue_profiles.time_formats import LOCAL_FORMATS, Value, written

_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
      |(?P<place>@(?:table|suffix)\b)
      |(?P<moment>@(?P<kind>now|ago)\b(?:\((?P<setting>\w+)\))?(?::(?P<format>\w+))?)
      |\$(?P<bound>\w+)
      |(?P<name>\{(?P<named>\w+)\}(?P<rest>\w*))
      |(?P<refused>;|--|/\*|\?|:|@|\$|\#|\[|`|'|"|\{|\}|\x00|\b(?i:with)\b)
      |(?P<bracket>[()])""",
    re.VERBOSE,
)
_FORMAT = re.compile(r"^(.*):((?:unix|sql|iso)_\w+|\{\w+\})$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may refer to: settings, the profile's time format, the row set's table."""

    settings: Settings = field(default_factory=Settings)
    form: TimeFormat = "unix_s"
    table: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One bound value: the moment `now` minus `amount` seconds in a time format, or (no format) `amount` itself."""

    name: str
    amount: float | str
    form: TimeFormat | None = None
    zone: str = ""

    def value(self, now: float) -> Value:
        """What to bind at `now` (seconds since the epoch)."""
        if self.form is None or isinstance(self.amount, str):
            return self.amount
        return written(now - self.amount, self.form, self.zone)


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL with named parameters. Equal tokens have equal names, so expressions can be put together."""

    sql: str
    parameters: tuple[Parameter, ...] = ()


def expression(text: str, scope: Scope) -> Expression:
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
        sql, bound = _token(match, scope, text)
        parts.append(sql)
        parameters += bound
    if depth:
        raise ProfileError(f"{text!r}: a bracket is not closed")
    return Expression("".join([*parts, text[end:]]), tuple(parameters))


def values(parameters: Iterable[Parameter], now: float) -> dict[str, Value]:
    """What to bind at `now` (seconds since the epoch)."""
    return {parameter.name: parameter.value(now) for parameter in parameters}


def time_format(text: str, where: str) -> TimeFormat:
    """The format of this name. Raises ProfileError."""
    if text not in get_args(TimeFormat):
        raise ProfileError(f"{where!r}: {text!r} is no time format; known: {', '.join(get_args(TimeFormat))}")
    return cast("TimeFormat", text)


def split_format(text: str, scope: Scope) -> tuple[str, TimeFormat]:
    """`EXPRESSION[:FORMAT]` as its two parts; without a format, the profile's. Raises ProfileError."""
    match = _FORMAT.match(text)
    if match is None:
        return text, _with_zone(scope.form, scope, text)
    return match[1], _with_zone(time_format(filled(match[2], scope.settings), text), scope, text)


def filled(name: str, settings: Settings) -> str:
    """A name with its `{SETTING}` put in. Raises ProfileError when there is no such text setting."""

    def put(match: re.Match[str]) -> str:
        if match[1] not in settings.texts:
            raise ProfileError(f"{name!r}: no text setting is called {match[1]!r}")
        return settings.texts[match[1]]

    return re.sub(r"\{(\w+)\}", put, name)


def quoted(name: str) -> str:
    """An identifier as SQL (https://sqlite.org/lang_keywords.html)."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def _token(match: re.Match[str], scope: Scope, text: str) -> tuple[str, tuple[Parameter, ...]]:
    if match["quoted"] or match["bracket"]:
        return match[0], ()
    if match["place"]:
        return (quoted(scope.table) if match[0] == "@table" else literal(scope.suffix)), ()
    if match["name"]:
        return quoted(filled(match[0], scope.settings)), ()
    bound = _settings(match["bound"], scope, text) if match["bound"] else (_moment(match, scope, text),)
    return ", ".join(f":{one.name}" for one in bound), bound


def _settings(name: str, scope: Scope, text: str) -> tuple[Parameter, ...]:
    settings = scope.settings
    if name in settings.words:
        return tuple(Parameter(f"setting_{name}_{i}", word) for i, word in enumerate(settings.words[name]))
    if name in settings.numbers:
        return (Parameter(f"setting_{name}", settings.numbers[name]),)
    if name in settings.texts:
        return (Parameter(f"setting_{name}", settings.texts[name]),)
    raise ProfileError(f"{text!r}: no setting is called {name!r}; known: {', '.join(settings.known) or 'none'}")


def _moment(match: re.Match[str], scope: Scope, text: str) -> Parameter:
    setting = match["setting"]
    if (match["kind"] == "ago") != (setting is not None):
        raise ProfileError(f"{text!r}: write @now or @ago(SETTING)")
    if setting is not None and setting not in scope.settings.numbers:
        known = ", ".join(scope.settings.numbers) or "none"
        raise ProfileError(f"{text!r}: no setting is called {setting!r} and is a number; known: {known}")
    form = _with_zone(time_format(match["format"], text) if match["format"] else scope.form, scope, text)
    name = f"{match['kind']}_{setting}_{form}" if setting else f"now_{form}"
    return Parameter(name, scope.settings.numbers[setting] if setting else 0.0, form, scope.settings.zone)


def _with_zone(form: TimeFormat, scope: Scope, text: str) -> TimeFormat:
    if form in LOCAL_FORMATS and not scope.settings.zone:
        raise ProfileError(f"{text!r}: {form} needs a setting `time_zone` of kind time_zone")
    return form
