"""Stores up to when each schedule's times are handled, and how many were missed. Runs inside the caller's transaction."""

import apsw


def schedule_done_until(history: apsw.Connection, name: str, database: str) -> float | None:
    """Up to when cron times are handled (seconds since the epoch); None for a schedule that is new here."""
    values = (name, database)
    until = history.execute("SELECT done_until FROM schedule WHERE name = ? AND database = ?", values).get
    return None if until is None else float(until)


def save_schedule_progress(history: apsw.Connection, name: str, database: str, until: float, missed: int) -> None:
    """Record that cron times up to `until` are handled; `missed` more of them were not run."""
    history.execute(
        "INSERT INTO schedule VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET done_until = excluded.done_until, missed = missed + excluded.missed",
        (name, database, until, missed),
    )
