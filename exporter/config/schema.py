"""The configuration file as it is written: keys, types, bounds. Strict: a key that is not declared here is an error.

The second stage (`exporter.config.assemble`) checks what depends on several keys, and builds `exporter.config.settings`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from exporter.config.sizes import GrowthBudget, parse_duration, parse_growth, parse_level, parse_setting, parse_size


def _value_schema(words: str, examples: tuple[str, ...], *kinds: str) -> WithJsonSchema:
    """The JSON Schema of a value as it is written in the file, for `queuekeeper config schema`."""
    return WithJsonSchema({"type": ["string", *kinds], "description": words, "examples": list(examples)})


Size = Annotated[int, BeforeValidator(parse_size), _value_schema("A size", ("64MiB", "1GB"), "integer")]
Duration = Annotated[float, BeforeValidator(parse_duration), _value_schema("A time", ("50ms", "15s", "26h"), "integer")]
Level = Annotated[float, BeforeValidator(parse_level), _value_schema("A level", ("3", "64MiB", "26h", "25%"), "number")]
# A setting of a profile: a level when the text can be read as one, otherwise a text (the profile says which it needs).
SettingValue = Annotated[
    float | str, BeforeValidator(parse_setting), _value_schema("A setting", ("60s", "solid_queue_"), "number")
]
Budget = Annotated[GrowthBudget, BeforeValidator(parse_growth), _value_schema("A budget", ("64MiB", "max(64MiB, 25%)"))]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]


def _check_scalar(value: object) -> object:
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError("an option is a text, a number, true, false or null")


Scalar = Annotated[
    Any,
    BeforeValidator(_check_scalar),
    WithJsonSchema({"type": ["string", "number", "boolean", "null"], "description": "An option of the action"}),
]


class ConfigPart(BaseModel):
    """The base of every part: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class KeepPart(ConfigPart):
    """How many backups of each age class are kept."""

    last: Annotated[int, Field(ge=1)] = 10
    hourly: Count = 24
    daily: Count = 7
    weekly: Count = 4
    monthly: Count = 6


class BackupPart(ConfigPart):
    """The backups of one database: directory, retention, compression."""

    directory: Text
    keep: KeepPart | None = None
    compress: Literal["none", "zstd"] = "none"


class DatabasePart(ConfigPart):
    """One database, or a glob of many."""

    path: Text
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")] | None = None
    profile: Text = "auto"
    owner_sqlite: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] | None = None
    settings: dict[str, SettingValue] = Field(default_factory=dict)
    backup: BackupPart | None = None


class PollPart(ConfigPart):
    """How often databases are read and globs are listed, in seconds."""

    interval: Annotated[Duration, Field(ge=1, le=3600)] = 15.0
    slow_interval: Annotated[Duration, Field(ge=60)] = 3600.0
    rescan: Annotated[Duration, Field(ge=1)] = 60.0


class LimitsPart(ConfigPart):
    """The budgets for work on a database; a budget that is not given keeps its default."""

    write_lock: Annotated[Duration, Field(gt=0)] | None = None
    checkpoint_wait: Annotated[Duration, Field(gt=0)] | None = None
    read_wal: Annotated[Duration, Field(gt=0)] | None = None
    read_rollback: Annotated[Duration, Field(gt=0)] | None = None
    wal_growth: Budget | None = None
    disk_reserve: Size | None = None

    @model_validator(mode="before")
    @classmethod
    def _rejoin_wal_growth(cls, data: Any) -> Any:
        """Rejoin `{wal_growth: max(64MiB, 25%)}`: YAML splits it at the comma, and `25%)` becomes a key without a value."""
        if not isinstance(data, dict):
            return data
        first, second = data.get("wal_growth"), next((key for key in data if str(key).endswith("%)")), None)
        if second is None or data[second] is not None or not str(first).startswith("max("):
            return data
        rest = {key: value for key, value in data.items() if key != second}
        return {**rest, "wal_growth": f"{first}, {second}"}


class AllowPart(ConfigPart):
    """Which callers may run actions over HTTP."""

    token_files: list[Text] = Field(default_factory=list)
    users: list[Text] = Field(default_factory=list)
    client_sans: list[Text] = Field(default_factory=list)


class ConcurrencyPart(ConfigPart):
    """How many actions of each lane may run at once."""

    short: Annotated[int, Field(ge=1, le=64)] = 4
    long: Annotated[int, Field(ge=1, le=64)] = 1


class RadiusPart(ConfigPart):
    """On how many databases a rule may start runs within a time: the larger of a number and a share of all."""

    databases: Annotated[int, Field(ge=1)] = 10
    share: Annotated[Level, Field(ge=0, le=1)] = 0.1
    within: Annotated[Duration, Field(ge=0)] = 600.0


class ActionsPart(ConfigPart):
    """Whether actions may run, for which callers, and within which bounds."""

    enabled: bool = False
    allow: AllowPart = Field(default_factory=AllowPart)
    windows: dict[str, Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")]] = (
        Field(default_factory=dict)
    )
    concurrency: ConcurrencyPart = Field(default_factory=ConcurrencyPart)
    quota_per_hour: Annotated[int, Field(ge=1)] = 12
    blast_radius: RadiusPart = Field(default_factory=RadiusPart)
    fresh_backup: Annotated[Duration, Field(gt=0)] = 86400.0
    checkpoint_vulnerable_owner: bool = False


class BoundPart(ConfigPart):
    """When the value of one metric counts as wrong, and when as healed."""

    above: Level | None = None
    below: Level | None = None
    clear: Level | None = None
    absent: Annotated[Duration, Field(gt=0)] | None = None
    where: dict[str, str] = Field(default_factory=dict)


class ThresholdPart(ConfigPart):
    """Starts a rule when the condition held this long in queuekeeper's own readings."""

    for_: Annotated[Duration, Field(alias="for")] = 0.0


class StartPart(ConfigPart):
    """The triggers that may start a rule: a threshold, alerts, or both."""

    threshold: ThresholdPart | None = None
    alert: list[Text] = Field(default_factory=list)


class RulePart(ConfigPart):
    """One rule: the condition, the action, and the triggers."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    when: Annotated[dict[str, BoundPart], Field(min_length=1, max_length=1)]
    on: StartPart
    do: Text
    options: dict[str, Scalar] = Field(default_factory=dict)
    cooldown: Duration = 600.0
    databases: list[Text] = Field(default_factory=list)
    priority: int = 0
    blast_radius: RadiusPart | None = None


class SchedulePart(ConfigPart):
    """One schedule: the action and its times."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    cron: Text
    do: Text
    timezone: Text | None = None
    jitter: Annotated[Duration, Field(le=86400)] = 0.0
    catch_up: Annotated[Duration, Field(le=31 * 86400)] = 0.0
    options: dict[str, Scalar] = Field(default_factory=dict)
    databases: list[Text] = Field(default_factory=list)
    priority: int = 0


class ConfigFile(ConfigPart):
    """The whole configuration file."""

    databases: Annotated[list[DatabasePart], Field(min_length=1)]
    identity: Text | None = None
    poll: PollPart = Field(default_factory=PollPart)
    limits: LimitsPart = Field(default_factory=LimitsPart)
    actions: ActionsPart = Field(default_factory=ActionsPart)
    rules: list[RulePart] = Field(default_factory=list)
    schedules: list[SchedulePart] = Field(default_factory=list)
    state: Text = "/var/lib/queuekeeper"
    timezone: Text | None = None
