"""The fewest free pages of each database, hour by hour: what is used again within a day is not worth giving back.

One row for each database and hour, for RETENTION_SECONDS: some kilobytes a database. Written by the agent after its polls.
"""

from collections.abc import Mapping

import apsw

from actions.model.context import FreePageMinimum
from actions.store.database import store_transaction

HOUR = 3600.0
RETENTION_SECONDS = 8 * 86400.0


def record_free_pages(history: apsw.Connection, lows: Mapping[tuple[str, int], int], now: float) -> None:
    """Record the fewest free pages by database and hour, and delete old rows. `now`: seconds since the epoch."""
    with store_transaction(history):
        history.executemany(
            "INSERT INTO free_low VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET pages = min(pages, excluded.pages)",
            [(database, hour, pages) for (database, hour), pages in lows.items()],
        )
        history.execute("DELETE FROM free_low WHERE hour < ?", (int((now - RETENTION_SECONDS) / HOUR),))


def load_free_page_minimums(history: apsw.Connection, database: str) -> tuple[FreePageMinimum, ...]:
    """The minimum of every recorded hour of this database, oldest first."""
    rows = history.execute("SELECT hour, pages FROM free_low WHERE database = ? ORDER BY hour", (database,))
    return tuple(FreePageMinimum(hour, pages) for hour, pages in rows)
