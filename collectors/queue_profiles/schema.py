"""The schema of a queue profile: a description of a queue's tables from which statements are compiled. Data, never code.

Docs: docs/profiles.md. Whole statements cannot be written in a profile, only expressions within fixed frames.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from collectors.queue_profiles.errors import ProfileError

TaskState = Literal[
    "waiting", "scheduled", "waiting_schedule", "blocked", "running", "done", "failed", "dead", "cancelled", "paused",
    "results", "locks",
]  # fmt: skip
LeaseKind = Literal["lease", "claim_time", "owner", "upper_bound", "none"]
ActionGate = Literal["safe", "guarded", "workers_stopped"]
TimeFormat = Literal[
    "unix_s", "unix_f", "unix_ms", "unix_us", "unix_ns", "sql_utc", "sql_utc_s", "sql_utc_ms", "iso_utc", "iso_utc_z",
    "sql_local", "unix_local",
]  # fmt: skip
SettingKind = Literal["number", "text", "words", "name", "time_format", "time_zone"]
# A name, or a text setting in braces with letters after it; of a table also with one `*`.
SettingName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
ColumnName = Annotated[str, Field(min_length=1, pattern=r"^(\{[a-z_]+\})?[A-Za-z0-9_]*$")]
TablePattern = Annotated[str, Field(min_length=1, pattern=r"^(\{[a-z_]+\})?[A-Za-z0-9_]*\*?[A-Za-z0-9_]*$")]
NonEmptyText = Annotated[str, Field(min_length=1)]
DeclaredColumns = dict[TablePattern, Annotated[list[ColumnName], Field(min_length=1)]]


_FAST_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictPart(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class SettingSpec(_StrictPart):
    """A setting of the operator: a number (seconds where it is a time) or, by `kind`, a text.

    Without a default it must be set, so the profile is never detected automatically. `also`: other values that detection
    tries.
    """

    help: NonEmptyText
    kind: SettingKind = "number"
    default: float | str | None = None
    also: list[NonEmptyText] = []

    @model_validator(mode="after")
    def _check_default_kind(self) -> Self:
        if self.default is not None and isinstance(self.default, str) == (self.kind == "number"):
            raise ValueError(
                f"the default of a setting of kind {self.kind} is a {_DEFAULT_KIND[self.kind == 'number']}"
            )
        if isinstance(self.default, float) and not 0 <= self.default < float("inf"):
            raise ValueError("the default is a number of 0 or more")
        return self


_DEFAULT_KIND = {True: "number", False: "text"}


class _ConditionalPart(_StrictPart):
    """A part that applies only when these text settings are filled (`given`) or empty (`without`)."""

    given: list[SettingName] = []
    without: list[SettingName] = []


class AliveSpec(_StrictPart):
    """A row of another table for which `where` holds proves that the holder is alive; `@table` is the table of the tasks."""

    table: TablePattern = Field(alias="from")
    where: NonEmptyText


class HolderSpec(_StrictPart):
    """The holder of a task. While it is alive the task is not stale, until `patience` (a setting) is over too.

    `name` identifies it. It is alive when it is a process of this host (`holder_liveness`) that started before `since`
    (`EXPRESSION[:FORMAT]`: when it claimed the task), or when `alive` proves it.
    """

    name: NonEmptyText
    since: NonEmptyText | None = None
    alive: AliveSpec | None = None
    patience: SettingName


class RowSetSpec(_ConditionalPart):
    """The rows of one state in one table. `since`, `stale_since`: `EXPRESSION[:FORMAT]`; `head`: grows with each task.

    `stale` and `holder` alone define when a lease is stale, for the gauge and for requeue. `head_is` distinguishes two tasks
    with the same `head`, where the queue reuses numbers. `slow`: counted on the slow timer.
    """

    state: TaskState
    table: TablePattern = Field(alias="from")
    where: NonEmptyText = "1"
    queue: NonEmptyText | None = None
    since: NonEmptyText | None = None
    head: ColumnName | None = None
    head_is: NonEmptyText | None = None
    key: ColumnName | None = None
    attempts: ColumnName | None = None
    stale: NonEmptyText | None = None
    stale_since: NonEmptyText | None = None
    holder: HolderSpec | None = None
    slow: bool = False

    @model_validator(mode="after")
    def _check_dependencies(self) -> Self:
        if self.holder is not None and self.stale is None:
            raise ValueError("`holder` needs `stale`")
        if (self.stale is None) != (self.stale_since is None):
            raise ValueError("`stale` and `stale_since` belong together")
        if self.head_is is not None and self.head is None:
            raise ValueError("`head_is` needs `head`")
        return self


class WorkersSpec(_ConditionalPart):
    """A table with one row for each worker; `stale` holds for those whose heartbeat is too old."""

    table: TablePattern = Field(alias="from")
    stale: NonEmptyText


class InsertSpec(_StrictPart):
    """A row to insert into another table: column -> expression about the changed row."""

    into: TablePattern
    or_ignore: bool = False
    values: Annotated[dict[ColumnName, NonEmptyText], Field(min_length=1)]


class StepSpec(_ConditionalPart):
    """The change of the rows for which `where` holds, and no earlier step's: `insert`, then `set` or `delete`."""

    to: Literal["dead", "waiting"]
    where: NonEmptyText | None = None
    insert: InsertSpec | None = None
    set: Annotated[dict[ColumnName, NonEmptyText], Field(min_length=1)] | None = None
    delete: bool = False

    @model_validator(mode="after")
    def _check_row_change(self) -> Self:
        if (self.set is not None) == self.delete:
            raise ValueError("a step needs either `set` or `delete: true`: the row must leave the stale ones")
        return self


class RequeueSpec(_StrictPart):
    """How stale rows are requeued. `may_run_twice`: a worker that is only slow may finish a task that another one repeats."""

    when: ActionGate
    may_run_twice: bool
    steps: Annotated[list[StepSpec], Field(min_length=1)]


class DependentRowsSpec(_StrictPart):
    """Rows of another table that are deleted with a finished row: those whose `column` is the finished row's `of`."""

    table: TablePattern = Field(alias="from")
    column: ColumnName
    of: ColumnName


class FinishedRowsSpec(_ConditionalPart):
    """Finished rows that may be deleted. `finished`: since when, `EXPRESSION[:FORMAT]`.

    `idempotency_key`: the column that makes the queue reject the same task again, where it is not NULL.
    """

    table: TablePattern = Field(alias="from")
    key: ColumnName
    where: NonEmptyText
    finished: NonEmptyText
    queue: NonEmptyText | None = None
    idempotency_key: ColumnName | None = None
    along: list[DependentRowsSpec] = []


class PurgeSpec(_StrictPart):
    """The rows that purge may delete. `frees_idempotency_keys`: the queue rejects a task whose key a finished row still has.

    Then a part declares with `idempotency_key` which of its rows have one; where no part does, all rows count as such.
    """

    when: ActionGate
    frees_idempotency_keys: bool
    rows: Annotated[list[FinishedRowsSpec], Field(min_length=1)]


class ActionsSpec(_StrictPart):
    """The actions that may change the rows of this queue."""

    requeue: RequeueSpec | None = None
    purge: PurgeSpec | None = None


class Verification(_StrictPart):
    """The source against which the profile was verified."""

    how: Literal["library", "schema", "documentation"]
    version: NonEmptyText


class QueueProfile(_StrictPart):
    """One profile. `detect`: the tables and columns that a database must have, `also`: those that it may have.

    Nothing else is ever read. Of the tables with a `*` in their name one must exist. `rowids_unused`: tables whose rowids no
    process uses, so that a VACUUM may change them. `statistics`: the library accepts sqlite_stat1 in its file.
    """

    profile: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    verified: Verification
    lease: LeaseKind
    time: NonEmptyText
    detect: Annotated[DeclaredColumns, Field(min_length=1)]
    also: DeclaredColumns = {}
    settings: dict[SettingName, SettingSpec] = {}
    rows: Annotated[list[RowSetSpec], Field(min_length=1)]
    workers: WorkersSpec | None = None
    enqueued: list[TablePattern] = []
    rowids_unused: list[ColumnName] = []
    statistics: bool = True
    actions: ActionsSpec = ActionsSpec()

    @field_validator("time")
    @classmethod
    def _check_time_format(cls, time: str) -> str:
        if time not in get_args(TimeFormat) and not re.fullmatch(r"\{[a-z_]+\}", time):
            raise ValueError(f"{time!r} is no time format; known: {', '.join(get_args(TimeFormat))}")
        return time

    @model_validator(mode="after")
    def _check_requeue_rows(self) -> Self:
        stale = [rows for rows in self.rows if rows.stale is not None]
        if self.actions.requeue is None:
            return self
        if not stale:
            raise ValueError("requeue needs a row set with `stale`")
        if any(rows.key is None for rows in stale):
            raise ValueError("requeue needs the `key` of the row set with `stale`")
        return self


def load_profile(path: Path, *, shipped: bool = False) -> QueueProfile:
    """Load the profile in a YAML file. Raises ProfileError with every mistake and its place.

    `shipped`: a file that comes with queuekeeper. Those are read by libyaml, which is seven times as fast; a file that is
    nested too deeply would crash it.
    """
    try:
        loader = _FAST_YAML_LOADER if shipped else yaml.SafeLoader
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe loaders
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise ProfileError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    return parse_profile(data, str(path))


def parse_profile(data: Any, where: str) -> QueueProfile:
    """Parse the profile in this mapping. Raises ProfileError; `where` names the mapping's origin in the message."""
    try:
        return QueueProfile.model_validate(data)
    except ValidationError as error:
        raise ProfileError(
            f"{where}: {'; '.join(_describe_mistake(dict(mistake)) for mistake in error.errors())}"
        ) from error


def _describe_mistake(error: dict[str, Any]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    return f"{place}: {error['msg']}" if place else str(error["msg"])
