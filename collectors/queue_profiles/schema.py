"""What a queue profile may say: a queue's tables in words that statements are compiled from. Data, never code.

Docs: docs/profiles.md. Whole statements cannot be written in a profile, only expressions within fixed frames.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

State = Literal["waiting", "scheduled", "running", "done", "failed", "dead"]
LeaseKind = Literal["lease", "claim_time", "owner", "none"]
Gate = Literal["safe", "guarded", "workers_stopped"]
TimeFormat = Literal[
    "unix_s", "unix_f", "unix_ms", "unix_us", "unix_ns", "sql_utc", "sql_utc_s", "sql_utc_ms", "iso_utc", "iso_utc_z"
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]


class ProfileError(Exception):
    """A profile that cannot be used: the message names the file, the place and the cause."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Setting(_Strict):
    """A number that the operator may set, in seconds where it is a time."""

    default: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    help: Text


class Rows(_Strict):
    """The rows of one state in one table. `queue`: column or expression; `since`, `stale_since`: `column[:format]`.

    `stale` is the one place that says when a lease is stale: gauge, victims and requeue share it.
    """

    state: State
    table: Name = Field(alias="from")
    where: Text
    queue: Text | None = None
    since: Text | None = None
    key: Name | None = None
    attempts: Name | None = None
    stale: Text | None = None
    stale_since: Text | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.stale is None) != (self.stale_since is None):
            raise ValueError("`stale` and `stale_since` belong together")
        return self


class Step(_Strict):
    """One UPDATE of requeue: column -> expression, for the rows where `where` holds and no earlier step's did."""

    to: Literal["dead", "waiting"]
    where: Text | None = None
    set: Annotated[dict[Name, Text], Field(min_length=1)]


class Requeue(_Strict):
    """How stale rows go back. `may_run_twice`: a worker that is only slow may finish what another began again."""

    when: Gate
    may_run_twice: bool
    steps: Annotated[list[Step], Field(min_length=1)]


class Actions(_Strict):
    """What may be done to this queue."""

    requeue: Requeue | None = None


class Verified(_Strict):
    """Against what the profile was tried."""

    how: Literal["library", "schema", "documentation"]
    version: Text


class Profile(_Strict):
    """One profile. `detect`: the tables, and their columns, that a database must have; nothing else is ever read."""

    profile: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    verified: Verified
    lease: LeaseKind
    time: TimeFormat
    detect: Annotated[dict[Name, Annotated[list[Name], Field(min_length=1)]], Field(min_length=1)]
    settings: dict[Name, Setting] = {}
    rows: Annotated[list[Rows], Field(min_length=1)]
    actions: Actions = Actions()

    @model_validator(mode="after")
    def _requeue_has_rows(self) -> Self:
        stale = [rows for rows in self.rows if rows.stale is not None]
        if self.actions.requeue is None:
            return self
        if len(stale) != 1:
            raise ValueError("requeue needs exactly one row set with `stale`")
        if stale[0].key is None:
            raise ValueError("requeue needs the `key` of the row set with `stale`")
        return self


def load(path: Path) -> Profile:
    """The profile in a YAML file. Raises ProfileError with every mistake and its place."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
