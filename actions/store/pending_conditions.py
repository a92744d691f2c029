"""Stores since when slow conditions hold, so that a restart does not begin a wait of hours again."""

from collections.abc import Mapping

import apsw
from pydantic import TypeAdapter

from actions.model.condition import Condition

_CONDITION_ADAPTER: TypeAdapter[Condition] = TypeAdapter(Condition)


def load_held_since(history: apsw.Connection) -> Mapping[tuple[str, str], tuple[Condition, float]]:
    """By (rule, database): which condition holds, and since when (seconds since the epoch)."""
    rows = history.execute("SELECT rule, database, condition, wrong_since FROM watch")
    return {(rule, database): (_CONDITION_ADAPTER.validate_json(text), since) for rule, database, text, since in rows}


def save_held_since(
    history: apsw.Connection, rule: str, database: str, condition: Condition, since: float | None
) -> None:
    """Record that the condition holds since `since`; None: it does not hold any more."""
    history.execute("DELETE FROM watch WHERE rule = ? AND database = ?", (rule, database))
    if since is not None:
        values = (rule, database, _CONDITION_ADAPTER.dump_json(condition).decode(), since)
        history.execute("INSERT INTO watch VALUES (?, ?, ?, ?)", values)
