"""Adds to the lifetime totals, inside the transaction that changes the run. Read by read_totals.py."""

from collections.abc import Mapping

import apsw

from actions.store.totals import DURATION_BUCKETS


def add_trigger(history: apsw.Connection, action: str, trigger: str) -> None:
    """A run was asked for."""
    history.execute(
        "INSERT INTO trigger_total VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET runs = runs + 1", (action, trigger)
    )


def add_run(history: apsw.Connection, database: str, action: str, outcome: str, now: float) -> None:
    """A run ended like this."""
    history.execute(
        "INSERT INTO run_total VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET runs = runs + 1, last_at = excluded.last_at",
        (database, action, outcome, now),
    )


def add_duration(history: apsw.Connection, action: str, seconds: float) -> None:
    """It took so long."""
    bucket = sum(seconds > bound for bound in DURATION_BUCKETS)
    history.execute(
        "INSERT INTO duration_total VALUES (?, ?, 1, ?)"
        " ON CONFLICT DO UPDATE SET runs = runs + 1, seconds = seconds + excluded.seconds",
        (action, bucket, seconds),
    )


def add_effect(history: apsw.Connection, database: str, rule: str, effect: str) -> None:
    """It had this effect."""
    history.execute(
        "INSERT INTO effect_total VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET runs = runs + 1",
        (database, rule, effect),
    )


def add_amounts(history: apsw.Connection, database: str, amounts: Mapping[str, float]) -> None:
    """It moved so much: bytes given back, tasks requeued, ..."""
    for name, amount in amounts.items():
        history.execute(
            "INSERT INTO amount_total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET amount = amount + excluded.amount",
            (database, name, amount),
        )
