"""Reads the sizes of one database for `get_database_stats`, without the collectors: their import costs more than that."""

from collections.abc import Mapping
from typing import Any

import apsw

from collectors.access.errors import EXPECTED_ERRORS, describe_failure
from collectors.access.file_facts import stat_or_none
from collectors.access.open_database import (
    PAGE_COUNTS,
    OpenedDatabase,
    find_reading_problem,
    open_database,
    read_limit,
)
from collectors.access.timeouts import time_limit
from collectors.raw_reader.client import RawReader, SurveyedReader
from collectors.target import Target


def read_database_sizes(target: Target) -> Mapping[str, int | str]:
    """page_size, pages, free_pages and wal_bytes of the database, and `wal`: whether its journal mode is WAL.

    Only `error`, one sentence, where they cannot be read.
    """
    with RawReader() as raw, open_database(target, SurveyedReader(raw, target.path)) as opened:
        try:
            sizes = _read_opened(target, opened)
        except EXPECTED_ERRORS as error:
            return {"error": f"{target.path}: {describe_failure(error)[1]}"}
        problem = find_reading_problem(opened)
        return sizes if problem is None else {"error": f"{problem.message}; call again"}


def _read_opened(target: Target, opened: OpenedDatabase) -> Mapping[str, int | str]:
    header, wal = opened.header, stat_or_none(target.wal)
    if header is None or not header.valid:
        return {"error": opened.verdict.message or f"{target.path} is no SQLite database, or it is encrypted"}
    if not opened.verdict.up:  # then the size of the file says nothing about its content
        return {"error": opened.verdict.message}
    wal_bytes = 0 if wal is None else wal.st_size
    if opened.connection is not None:
        pages, free_pages = _count_pages(opened.connection, read_limit(target, header))
    elif wal_bytes == 0:  # no process has it open: then the file alone is the database
        pages, free_pages = target.path.stat().st_size // header.page_size, header.free_pages
    else:
        return {"error": opened.verdict.message}
    sizes = {"page_size": header.page_size, "pages": pages, "free_pages": free_pages}
    return {**sizes, "wal": header.wal, "wal_bytes": wal_bytes}


def _count_pages(connection: apsw.Connection, limit: float) -> tuple[int, int]:
    """All pages and free pages of one moment. Raises apsw.Error, TimeLimitExceeded."""
    with time_limit(connection, limit):
        rows: list[tuple[Any, ...]] = connection.execute(PAGE_COUNTS).fetchall()
    return int(rows[0][0]), int(rows[0][1])
