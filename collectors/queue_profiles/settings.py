"""Checks the operator's settings of one profile against the kinds that the profile declares. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.schema import QueueProfile, SettingSpec, TimeFormat
from collectors.queue_profiles.time_formats import load_time_zone

SettingValue = float | str
_WORD_PATTERN = re.compile(r"[^,\s][^,]*")
_NAME_PATTERN = re.compile(r"[^\x00{}*]{0,128}")
TIME_ZONE = "time_zone"


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """Every setting of a profile with its value; `words` are lists. A missing text is an empty text."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def setting_names(self) -> tuple[str, ...]:
        """The names of all settings."""
        return (*self.numbers, *self.texts, *self.words)

    @property
    def zone_name(self) -> str:
        """The name of the time zone of `sql_local` columns, empty without one."""
        return self.texts.get(TIME_ZONE, "")

    def is_filled(self, name: str) -> bool:
        """Whether a text or a list is not empty; a number counts as filled."""
        return bool(self.texts.get(name) or self.words.get(name) or name in self.numbers)


def resolve_settings(profile: QueueProfile, given: Mapping[str, SettingValue]) -> ProfileSettings:
    """Resolve the profile's settings from the operator's values and the defaults. Raises ProfileError."""
    for name in given:
        if name not in profile.settings:
            known = ", ".join(profile.settings) or "none"
            raise ProfileError(f"settings.{name}: no such setting; known: {known}")
    values = {name: _checked_value(name, setting, given.get(name)) for name, setting in profile.settings.items()}
    kinds = {name: setting.kind for name, setting in profile.settings.items()}
    return ProfileSettings(
        numbers={name: value for name, value in values.items() if isinstance(value, float)},
        texts={name: str(value) for name, value in values.items() if kinds[name] not in ("number", "words")},
        words={name: _split_words(str(value)) for name, value in values.items() if kinds[name] == "words"},
    )


def setting_variants(profile: QueueProfile, given: Mapping[str, SettingValue]) -> Iterator[Mapping[str, SettingValue]]:
    """Yield the settings that detection tries: the given ones, then each other value (`also`) of a setting not given."""
    known = {name: value for name, value in given.items() if name in profile.settings}
    yield known
    for name, setting in profile.settings.items():
        if name not in known:
            yield from ({**known, name: other} for other in setting.also)


def required_settings(profile: QueueProfile) -> tuple[str, ...]:
    """The settings without which the profile cannot be used."""
    return tuple(name for name, setting in profile.settings.items() if setting.default is None)


def _checked_value(name: str, setting: SettingSpec, given: SettingValue | None) -> SettingValue:
    value = setting.default if given is None else given
    if value is None:
        raise ProfileError(f"settings.{name} is not set: {setting.help}")
    if setting.kind == "number":
        return _checked_number(name, value)
    return _checked_text(name, setting, value if isinstance(value, str) else f"{value:g}")


def _checked_number(name: str, value: SettingValue) -> float:
    if isinstance(value, str) or not 0 <= value < float("inf"):
        raise ProfileError(f"settings.{name}: {value!r} is not a number of seconds")
    return float(value)


def _checked_text(name: str, setting: SettingSpec, value: str) -> str:
    try:
        _check_text_kind(setting, value)
    except (ValueError, ProfileError) as error:
        raise ProfileError(f"settings.{name}: {error}") from error
    return value


def _check_text_kind(setting: SettingSpec, value: str) -> None:
    if setting.kind == "time_format" and value not in get_args(TimeFormat):
        raise ValueError(f"{value!r} is no time format; known: {', '.join(get_args(TimeFormat))}")
    if setting.kind == "time_zone":
        load_time_zone(value)
    if setting.kind == "name" and not _NAME_PATTERN.fullmatch(value):
        raise ValueError(f"{value!r} cannot be the name of a table or column")
    if "\x00" in value:
        raise ValueError("a text cannot hold a zero byte")


def _split_words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in _WORD_PATTERN.findall(text)))
