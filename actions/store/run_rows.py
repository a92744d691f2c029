"""Reads runs from history, and says of each whether it is as it was written.

A row that was changed by hand may hold anything. It is shown with what can be read of it: an error would hide the others.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import apsw
from pydantic import TypeAdapter, ValidationError

from actions.model.plan import Figure, Plan
from actions.model.request import Request
from actions.store.chain import (
    CHAINED_COLUMNS,
    CHANGED,
    INSERTED,
    ChainEntry,
    Value,
    digest_values,
    hash_entry,
    raw_columns,
    read_entry,
)

# As written; changed since; without an entry in the chain: nothing of ours wrote it.
RecordState = Literal["whole", "changed", "inserted"]

_REQUEST_ADAPTER: TypeAdapter[Request] = TypeAdapter(Request)
_PLAN_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)
# The figure of a run that says by how many seconds the clock was set while it ran.
CLOCK_MOVED = "clock_moved_seconds"
# SQL: the figures of a run. Where they are no JSON, `->>` would make an error of the statement that looks for any run.
VALID_FIGURES = "iif(json_valid(figures), figures, '{}')"
_LAST_SECOND = 253_402_300_799.0  # of the year 9999: later times cannot be printed


@dataclass(frozen=True, slots=True)
class Run:
    """One run as history has it. Times in seconds since the epoch, UTC.

    `record_hash`: the hash of its newest entry in the chain. Kept elsewhere, it proves later what was recorded up to here.
    """

    id: int
    database: str
    path: str
    action: str
    trigger: str
    rule: str
    episode: str
    state: str
    token: str
    claimer: str
    child: str
    requested_at: float
    claimed_at: float | None
    started_at: float | None
    ended_at: float | None
    before: float | None
    after: float | None
    outcome: str | None
    reason: str
    message: str
    next_step: str
    effect: str | None
    request: Request
    plan: Plan | None
    figures: Mapping[str, Figure]
    record: RecordState = "whole"
    record_hash: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it ran, by a clock that was not set meanwhile; None before its end, and where that is not known."""
        if self.started_at is None or self.ended_at is None:
            return None
        moved = self.figures.get(CLOCK_MOVED)
        seconds = self.ended_at - self.started_at - (moved if isinstance(moved, int | float) else 0.0)
        return seconds if seconds >= 0 else None


_NUMBERS = frozenset(("id", "requested_at", "claimed_at", "started_at", "ended_at", "before", "after"))
_NULLABLE = frozenset(("claimed_at", "started_at", "ended_at", "before", "after", "outcome", "effect", "plan"))
_SELECT = (
    f"SELECT {raw_columns(CHAINED_COLUMNS, 'run')},"  # noqa: S608 our own column names
    " (SELECT max(sequence) FROM chain WHERE run_id = run.id),"
    f" (SELECT event FROM chain WHERE run_id = run.id AND event IN ('{CHANGED}', '{INSERTED}') LIMIT 1)"
    " FROM run"
)


def select_runs(history: apsw.Connection, clauses: str, values: tuple[object, ...] = ()) -> list[Run]:
    """The runs that the rest of the statement selects (our own words, never a name or a message)."""
    rows: list[tuple[Any, ...]] = history.execute(f"{_SELECT} {clauses}", values).fetchall()
    return [_run_from_row(history, row[:-2], row[-2], row[-1]) for row in rows]


def dump_request(request: Request) -> str:
    """The request as the column `request` holds it."""
    return _REQUEST_ADAPTER.dump_json(request).decode()


def dump_plan(plan: Plan) -> str:
    """The plan as the column `plan` holds it."""
    return _PLAN_ADAPTER.dump_json(plan).decode()


def _run_from_row(history: apsw.Connection, row: tuple[Value, ...], newest: int | None, mark: str | None) -> Run:
    entry = read_entry(history, newest)
    values: dict[str, Any] = {name: _plain_value(name, v) for name, v in zip(CHAINED_COLUMNS, row, strict=True)}
    del values["priority"]
    values["request"] = _parse_request(values)
    values["plan"] = None if values["plan"] is None else _parse_plan(values["plan"])
    values["figures"] = _parse_figures(values["figures"])
    state = mark or _record_state(history, entry, digest_values(row))
    return Run(**values, record=cast("RecordState", state), record_hash="" if entry is None else entry.hash)


def _record_state(history: apsw.Connection, entry: ChainEntry | None, digest: str) -> RecordState:
    """Compare a run with its newest entry, and that one with its hash: the whole chain is verified on request only."""
    if entry is None:
        return INSERTED
    previous = read_entry(history, entry.sequence - 1)
    if entry.sequence > 1 and previous is None:
        linked = True  # the entry before is missing: that is no fault of this one
    else:
        linked = entry.hash == hash_entry(entry, "" if previous is None else previous.hash)
    return "whole" if linked and entry.content == digest else CHANGED


def _plain_value(name: str, value: Value) -> object:
    if value is None and name in _NULLABLE:
        return None
    if name not in _NUMBERS:
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    number = value if isinstance(value, int | float) else None
    if name.endswith("_at") and (number is None or not 0 <= number <= _LAST_SECOND):
        return None if name in _NULLABLE else 0.0
    return number


def _parse_request(values: Mapping[str, Any]) -> Request:
    try:
        return _REQUEST_ADAPTER.validate_json(values["request"])
    except ValidationError:
        return Request(values["action"], values["database"])


def _parse_plan(text: str) -> Plan | None:
    try:
        return _PLAN_ADAPTER.validate_json(text)
    except ValidationError:
        return None


def _parse_figures(text: str) -> Mapping[str, Figure]:
    try:
        figures = json.loads(text)
    except ValueError:
        return {}
    return figures if isinstance(figures, dict) else {}
