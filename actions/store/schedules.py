"""Up to when each schedule's times are dealt with, and how many were missed. Inside the caller's transaction."""

import apsw


def schedule_done_until(history: apsw.Connection, name: str, database: str) -> float | None:
    """Cron times up to then are dealt with (seconds since the epoch); None for a schedule that is new here."""
    values = (name, database)
    found = history.execute("SELECT done_until FROM schedule WHERE name = ? AND database = ?", values).get
    return None if found is None else float(found)


def save_schedule_progress(history: apsw.Connection, name: str, database: str, until: float, missed: int) -> None:
    """Cron times up to `until` are dealt with; `missed` more of them were not run."""
    history.execute(
        "INSERT INTO schedule VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET done_until = excluded.done_until, missed = missed + excluded.missed",
        (name, database, until, missed),
    )
