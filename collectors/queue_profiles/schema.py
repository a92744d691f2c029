"""What a queue profile may say: a queue's tables in words that statements are compiled from. Data, never code.

Docs: docs/profiles.md. Whole statements cannot be written in a profile, only expressions within fixed frames.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

State = Literal[
    "waiting", "scheduled", "waiting_schedule", "blocked", "running", "done", "failed", "dead", "cancelled", "paused",
    "results", "locks",
]  # fmt: skip
LeaseKind = Literal["lease", "claim_time", "owner", "upper_bound", "none"]
Gate = Literal["safe", "guarded", "workers_stopped"]
TimeFormat = Literal[
    "unix_s", "unix_f", "unix_ms", "unix_us", "unix_ns", "sql_utc", "sql_utc_s", "sql_utc_ms", "iso_utc", "iso_utc_z",
    "sql_local", "unix_local",
]  # fmt: skip
SettingKind = Literal["number", "text", "words", "name", "time_format", "time_zone"]
# A name, or a text setting in braces with letters around it; of a table also one `*`.
Plain = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Column = Annotated[str, Field(min_length=1, pattern=r"^(\{[a-z_]+\})?[A-Za-z0-9_]*$")]
Table = Annotated[str, Field(min_length=1, pattern=r"^(\{[a-z_]+\})?[A-Za-z0-9_]*\*?[A-Za-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Tables = dict[Table, Annotated[list[Column], Field(min_length=1)]]


_QUICK_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ProfileError(Exception):
    """A profile that cannot be used: the message names the file, the place and the cause."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Setting(_Strict):
    """What the operator may set: a number (seconds where it is a time) or, by `kind`, a text.

    No default: it must be set, so the profile is never found by itself. `also`: other values that detection tries.
    """

    help: Text
    kind: SettingKind = "number"
    default: float | str | None = None
    also: list[Text] = []

    @model_validator(mode="after")
    def _default_of_its_kind(self) -> Self:
        if self.default is not None and isinstance(self.default, str) == (self.kind == "number"):
            raise ValueError(f"the default of a setting of kind {self.kind} is a {_KIND_WORD[self.kind == 'number']}")
        if isinstance(self.default, float) and not 0 <= self.default < float("inf"):
            raise ValueError("the default is a number of 0 or more")
        return self


_KIND_WORD = {True: "number", False: "text"}


class _Optional(_Strict):
    """A part that is there only when these text settings are filled (`given`) or empty (`without`)."""

    given: list[Plain] = []
    without: list[Plain] = []


class Alive(_Strict):
    """A row of another table, for which `where` holds, says that the holder lives; `@table` is the table of the tasks."""

    table: Table = Field(alias="from")
    where: Text


class Holder(_Strict):
    """Who holds a task. One who lives keeps it after its lease ran out, until `patience` (a setting) is over too.

    `name` names it, and lives when it is a process of this host (`holder_life`) that began before `since`
    (`EXPRESSION[:FORMAT]`: when it took the task). So does one of whom `alive` says so.
    """

    name: Text
    since: Text | None = None
    alive: Alive | None = None
    patience: Plain


class Rows(_Optional):
    """The rows of one state in one table. `since`, `stale_since`: `EXPRESSION[:FORMAT]`; `head`: grows with each task.

    `stale` and `holder` are the one place that says when a lease is stale: gauge, victims and requeue share it. `head_is`
    tells two tasks with the same `head` apart, where the queue uses numbers again. `slow`: counted on the slow timer.
    """

    state: State
    table: Table = Field(alias="from")
    where: Text = "1"
    queue: Text | None = None
    since: Text | None = None
    head: Column | None = None
    head_is: Text | None = None
    key: Column | None = None
    attempts: Column | None = None
    stale: Text | None = None
    stale_since: Text | None = None
    holder: Holder | None = None
    slow: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.holder is not None and self.stale is None:
            raise ValueError("`holder` needs `stale`")
        if (self.stale is None) != (self.stale_since is None):
            raise ValueError("`stale` and `stale_since` belong together")
        if self.head_is is not None and self.head is None:
            raise ValueError("`head_is` needs `head`")
        return self


class Workers(_Optional):
    """One row for each worker; `stale` says which of them were not heard of for too long."""

    table: Table = Field(alias="from")
    stale: Text


class Insert(_Strict):
    """A row for another table, made of the taken row: column -> expression."""

    into: Table
    or_ignore: bool = False
    values: Annotated[dict[Column, Text], Field(min_length=1)]


class Step(_Optional):
    """What happens to the rows where `where` holds and no earlier step's did: `insert`, then `set` or `delete`."""

    to: Literal["dead", "waiting"]
    where: Text | None = None
    insert: Insert | None = None
    set: Annotated[dict[Column, Text], Field(min_length=1)] | None = None
    delete: bool = False

    @model_validator(mode="after")
    def _takes_the_row(self) -> Self:
        if (self.set is not None) == self.delete:
            raise ValueError("a step needs either `set` or `delete: true`: the row must leave the stale ones")
        return self


class Requeue(_Strict):
    """How stale rows go back. `may_run_twice`: a worker that is only slow may finish what another began again."""

    when: Gate
    may_run_twice: bool
    steps: Annotated[list[Step], Field(min_length=1)]


class Along(_Strict):
    """Rows of another table that go with a finished row: those whose `column` is the finished row's `of`."""

    table: Table = Field(alias="from")
    column: Column
    of: Column


class Finished(_Optional):
    """Finished rows that may go. `finished`: since when, `EXPRESSION[:FORMAT]`.

    `idempotency_key`: the column that keeps the queue from taking the same task again, where it is not NULL.
    """

    table: Table = Field(alias="from")
    key: Column
    where: Text
    finished: Text
    queue: Text | None = None
    idempotency_key: Column | None = None
    along: list[Along] = []


class Purge(_Strict):
    """What may be deleted. `frees_idempotency_keys`: the queue refuses a task whose key a finished row still holds.

    Then a part says by `idempotency_key` which of its rows do; where no part says so, all of them count as such.
    """

    when: Gate
    frees_idempotency_keys: bool
    rows: Annotated[list[Finished], Field(min_length=1)]


class Actions(_Strict):
    """What may be done to this queue."""

    requeue: Requeue | None = None
    purge: Purge | None = None


class Verified(_Strict):
    """Against what the profile was tried."""

    how: Literal["library", "schema", "documentation"]
    version: Text


class Profile(_Strict):
    """One profile. `detect`: the tables and columns that a database must have, `also`: those that it may have.

    Nothing else is ever read. Of tables with a `*` in their name one must be there. `rowids_unused`: tables whose rows
    nobody finds by rowid, so that a VACUUM may number them anew. `statistics`: the library bears sqlite_stat1 in its file.
    """

    profile: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    verified: Verified
    lease: LeaseKind
    time: Text
    detect: Annotated[Tables, Field(min_length=1)]
    also: Tables = {}
    settings: dict[Plain, Setting] = {}
    rows: Annotated[list[Rows], Field(min_length=1)]
    workers: Workers | None = None
    enqueued: list[Table] = []
    rowids_unused: list[Column] = []
    statistics: bool = True
    actions: Actions = Actions()

    @field_validator("time")
    @classmethod
    def _is_a_format(cls, time: str) -> str:
        if time not in get_args(TimeFormat) and not re.fullmatch(r"\{[a-z_]+\}", time):
            raise ValueError(f"{time!r} is no time format; known: {', '.join(get_args(TimeFormat))}")
        return time

    @model_validator(mode="after")
    def _requeue_has_rows(self) -> Self:
        stale = [rows for rows in self.rows if rows.stale is not None]
        if self.actions.requeue is None:
            return self
        if not stale:
            raise ValueError("requeue needs a row set with `stale`")
        if any(rows.key is None for rows in stale):
            raise ValueError("requeue needs the `key` of the row set with `stale`")
        return self


def load(path: Path, *, shipped: bool = False) -> Profile:
    """The profile in a YAML file. Raises ProfileError with every mistake and its place.

    `shipped`: it comes with queuekeeper. Those are read by libyaml, seven times as fast; a file that nests without end
    would crash it.
    """
    try:
        loader = _QUICK_LOADER if shipped else yaml.SafeLoader
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe loaders
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise ProfileError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    return parse(data, str(path))


def parse(data: Any, where: str) -> Profile:
    """The profile in this mapping. Raises ProfileError; `where` names its origin."""
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        raise ProfileError(f"{where}: {'; '.join(_mistake(dict(one)) for one in error.errors())}") from error


def _mistake(error: dict[str, Any]) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    return f"{place}: {error['msg']}" if place else str(error["msg"])
