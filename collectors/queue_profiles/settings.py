"""The operator's settings of one profile, each checked against the kind that the profile declares. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

from collectors.queue_profiles.schema import Profile, ProfileError, Setting, TimeFormat
from collectors.queue_profiles.time_formats import time_zone

Chosen = float | str
_WORD = re.compile(r"[^,\s][^,]*")
_NAME = re.compile(r"[^\x00{}*]{0,128}")
TIME_ZONE = "time_zone"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a profile with its value; `words` are lists. A missing text is the empty one."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def known(self) -> tuple[str, ...]:
        """The names of all."""
        return (*self.numbers, *self.texts, *self.words)

    @property
    def zone(self) -> str:
        """The time zone of `sql_local` columns."""
        return self.texts.get(TIME_ZONE, "")

    def filled(self, name: str) -> bool:
        """Whether a text or a list is not empty; a number always is filled."""
        return bool(self.texts.get(name) or self.words.get(name) or name in self.numbers)


def settings_of(profile: Profile, given: Mapping[str, Chosen]) -> Settings:
    """The profile's settings with what the operator gave. Raises ProfileError that names the setting."""
    for name in given:
        if name not in profile.settings:
            known = ", ".join(profile.settings) or "none"
            raise ProfileError(f"settings.{name}: no such setting; known: {known}")
    values = {name: _checked(name, setting, given.get(name)) for name, setting in profile.settings.items()}
    kinds = {name: setting.kind for name, setting in profile.settings.items()}
    return Settings(
        numbers={name: value for name, value in values.items() if isinstance(value, float)},
        texts={name: str(value) for name, value in values.items() if kinds[name] not in ("number", "words")},
        words={name: _words(str(value)) for name, value in values.items() if kinds[name] == "words"},
    )


def variants(profile: Profile, given: Mapping[str, Chosen]) -> Iterator[Mapping[str, Chosen]]:
    """What detection tries: what is given, then each other value (`also`) of a setting that is not given."""
    known = {name: value for name, value in given.items() if name in profile.settings}
    yield known
    for name, setting in profile.settings.items():
        if name not in known:
            yield from ({**known, name: other} for other in setting.also)


def required(profile: Profile) -> tuple[str, ...]:
    """The settings without which the profile cannot be used."""
    return tuple(name for name, setting in profile.settings.items() if setting.default is None)


def _checked(name: str, setting: Setting, given: Chosen | None) -> Chosen:
    value = setting.default if given is None else given
    if value is None:
        raise ProfileError(f"settings.{name} is not set: {setting.help}")
    if setting.kind == "number":
        return _number(name, value)
    return _text(name, setting, value if isinstance(value, str) else f"{value:g}")


def _number(name: str, value: Chosen) -> float:
    if isinstance(value, str) or not 0 <= value < float("inf"):
        raise ProfileError(f"settings.{name}: {value!r} is not a number of seconds")
    return float(value)


def _text(name: str, setting: Setting, value: str) -> str:
    try:
        _check_text(setting, value)
    except (ValueError, ProfileError) as error:
        raise ProfileError(f"settings.{name}: {error}") from error
    return value


def _check_text(setting: Setting, value: str) -> None:
    if setting.kind == "time_format" and value not in get_args(TimeFormat):
        raise ValueError(f"{value!r} is no time format; known: {', '.join(get_args(TimeFormat))}")
    if setting.kind == "time_zone":
        time_zone(value)
    if setting.kind == "name" and not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} cannot be the name of a table or column")
    if "\x00" in value:
        raise ValueError("a text cannot hold a zero byte")


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in _WORD.findall(text)))
