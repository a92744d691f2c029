"""How well the pages are filled and ordered (dbstat), which a VACUUM would mend. On the slow timer.

dbstat reads every page of the file (https://sqlite.org/dbstat.html). So it reads the newest verified backup, which no
process uses, and the live file only when that is small enough to be read within its budget.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import apsw

from collectors.access.connection import open_immutable
from collectors.access.context import CollectorSpec, PollContext
from collectors.access.errors import EXPECTED_ERRORS, SlowReadingFailed, describe_failure
from collectors.access.timeouts import time_limit
from collectors.backup_catalog.names import is_compressed_name
from collectors.backup_catalog.order import newest_verified
from collectors.backup_catalog.store import open_catalog
from collectors.metric import Metric, Sample

NAME = "page_layout"
SPEC = CollectorSpec(skip_first_poll=True)

UNUSED = Metric(
    "sqlite_unused_bytes",
    "Bytes inside pages of tables and indexes that hold nothing (dbstat). Read on the slow timer, of the newest verified "
    "backup where there is one.",
    fold="sum",
)
OUT_OF_ORDER = Metric(
    "sqlite_out_of_order_pages_ratio",
    "Share of pages, 0 to 1, that do not follow the page before them in their table or index (dbstat). Read on the slow "
    "timer, of the newest verified backup where there is one.",
)
METRICS = (UNUSED, OUT_OF_ORDER)

# dbstat with the order of pages: 1.2 GB/s from the page cache, half of it from disk (bench/many_tasks.py): a tenth of it.
BYTES_PER_SECOND = 128 * 1024 * 1024
# Seconds. While a backup is read, only the next poll of this database waits.
BACKUP_LIMIT = 5.0
_SQL = """
SELECT total(unused), total(pageno <> before + 1), count(*)
FROM (SELECT unused, pageno, lag(pageno, 1, pageno - 1) OVER (PARTITION BY name ORDER BY path) AS before FROM dbstat)
"""


@dataclass(frozen=True, slots=True)
class PageLayoutReading:
    """`tried_at`: when it was last read or tried. `as_of`: the moment that it describes. Seconds since the epoch.

    `source` is "none" where there is nothing that may be read. `trouble`: (word, sentence) of a try that failed.
    """

    tried_at: float
    source: Literal["backup", "live", "none"] = "none"
    as_of: float = 0.0
    unused: int = 0
    out_of_order: float = 0.0
    trouble: tuple[str, str] | None = None


def read(context: PollContext, previous: PageLayoutReading | None) -> PageLayoutReading:
    """The layout; the previous one until it is due again. Raises SlowReadingFailed also while a failed try is remembered."""
    reading = previous if previous is not None and not _is_due(context, previous) else _try_measuring(context)
    if reading.trouble is not None:
        raise SlowReadingFailed(*reading.trouble, remember=reading)
    return reading


def samples(reading: PageLayoutReading) -> Iterator[Sample]:
    """Yield both metrics, or nothing where nothing could be read."""
    if reading.source != "none":
        yield UNUSED(reading.unused)
        yield OUT_OF_ORDER(reading.out_of_order)


def _is_due(context: PollContext, previous: PageLayoutReading) -> bool:
    """Whether the interval is over or the clock was set back. Where nothing could be read: at every poll."""
    if previous.source == "none" and previous.trouble is None:
        return True
    return not 0 <= context.now - previous.tried_at < context.target.slow_interval


def _try_measuring(context: PollContext) -> PageLayoutReading:
    tried = PageLayoutReading(context.now)
    try:
        catalog = open_catalog(context.target)
        backup = None if catalog is None else newest_verified(catalog.list_backups().backups.values(), context.now)
        if catalog is not None and backup is not None and not is_compressed_name(backup.name):
            with catalog.open_local(backup.reference) as copy:
                return _measure_backup(tried, copy, backup.snapshot_time)
        if context.connection is None or not _fits_read_limit(context):
            return tried
        return replace(_measure_layout(tried, context.connection), source="live", as_of=context.now)
    except EXPECTED_ERRORS as error:
        return replace(tried, trouble=describe_failure(error))


def _measure_backup(tried: PageLayoutReading, path: Path, snapshot_time: float) -> PageLayoutReading:
    with open_immutable(path) as connection, time_limit(connection, BACKUP_LIMIT):
        return replace(_measure_layout(tried, connection), source="backup", as_of=snapshot_time)


def _fits_read_limit(context: PollContext) -> bool:
    """Whether reading all of it fits well into the time for which we may hold what the application needs."""
    wal = context.header is not None and context.header.wal
    limits = context.target.limits
    size = context.target.path.stat().st_size
    return size <= BYTES_PER_SECOND * (limits.read_wal if wal else limits.read_rollback)


def _measure_layout(tried: PageLayoutReading, connection: apsw.Connection) -> PageLayoutReading:
    unused, jumps, pages = connection.execute(_SQL).get
    return replace(tried, unused=int(unused), out_of_order=jumps / pages if pages else 0.0)
