"""What a collector declares of itself, and what it works with at one poll of one database."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import apsw

from collectors.access.errors import EXPECTED_ERRORS, describe_failure
from collectors.access.open_database import PAGE_COUNTS, SchemaRows, read_limit
from collectors.access.timeouts import time_limit
from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.cache import cached_profile
from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.run_queries import QuickCounts, read_queue_names, read_quick_counts
from collectors.queue_profiles.shared_reads import SharedReads
from collectors.queue_profiles.statement import BoundStatement
from collectors.raw_reader.client import RawReader
from collectors.raw_reader.formats import DatabaseHeader
from collectors.raw_reader.wal_readers import HeldLock
from collectors.target import Target

_PAGE_COUNTS = BoundStatement(
    PAGE_COUNTS,
    {},
    AccessRules({
        "pragma_page_count": frozenset({"page_count"}),
        "pragma_freelist_count": frozenset({"freelist_count"}),
        "sqlite_schema": frozenset(),
    }),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CollectorSpec:
    """How a collector is run. Every fact about one is declared here, in its own module.

    `needs_connection`: it fails where no read-only connection may be open (docs/safety.md).
    `needs_profile`: it fails where the queue profile could not be found out; that is looked up before it runs.
    `shared_read`: it is called with the shared reads, the queue profile (None where none is needed) and the poll's `now`, and
    fetches what the collector will fetch: those rows are read in one statement with those of the others, so that their
    values belong to the same moment. Not for what is slow.
    `runs_first`: it runs right before that statement: its values are compared with what was seen before opening.
    `skip_first_poll`: it may read all of a file, and the first page of a thousand databases must not wait for that.
    `outside_file`: its reading does not come out of the database's files: it is read again when those are unchanged.
    """

    needs_connection: bool = False
    needs_profile: bool = False
    shared_read: Callable[[SharedReads, Any, float], object] | None = None
    runs_first: bool = False
    skip_first_poll: bool = False
    outside_file: bool = False


class PageCounts(NamedTuple):
    """All pages of a database file, and those on its freelist."""

    pages: int
    free: int


@dataclass(slots=True)
class PollContext:
    """One poll of one database. What several collectors need is read once and remembered until the poll ends.

    `connection` is None when no read-only connection may be opened (the owner is down, a preflight refusal); `schema` is
    what was read of it then. `now` is the one clock of the poll, seconds since the epoch.
    `held_locks`: locks on its files right before we opened it, None where they cannot be seen.
    `profile_failure`: (word, sentence) where the queue profile could not be found out.
    `backup_listing`: the backups, once a collector has listed them.
    """

    target: Target
    now: float
    raw: RawReader
    header: DatabaseHeader | None = None
    connection: apsw.Connection | None = None
    schema: SchemaRows = ()
    held_locks: tuple[HeldLock, ...] | None = None
    profile_failure: tuple[str, str] | None = field(default=None, init=False)
    backup_listing: Any = field(default=None, init=False)
    _profile: CompiledProfile | None = field(default=None, init=False)
    _looked_up: bool = field(default=False, init=False)
    _shared_reads: SharedReads | None = field(default=None, init=False)
    _page_counts: PageCounts | None = field(default=None, init=False)
    _quick_counts: QuickCounts | None = field(default=None, init=False)

    @property
    def read_limit(self) -> float:
        """Seconds for which one read may last."""
        return read_limit(self.target, self.header)

    def require_connection(self) -> apsw.Connection:
        """The connection of a collector that needs one. Raises RuntimeError when it was run without."""
        if self.connection is None:
            raise RuntimeError("this collector was run without a connection")
        return self.connection

    @property
    def shared_reads(self) -> SharedReads:
        """What the collectors read at one moment. Raises RuntimeError without a connection."""
        if self._shared_reads is None:
            self._shared_reads = SharedReads(self.require_connection())
        return self._shared_reads

    def find_profile(self) -> CompiledProfile | None:
        """The queue profile, looked up at the first call; None when the schema is no known queue, or the lookup failed."""
        if not self._looked_up and self.connection is not None:
            self._looked_up = True
            try:
                with time_limit(self.connection, self.read_limit):
                    self._profile = cached_profile(self.connection, self.schema, self.target)
            except EXPECTED_ERRORS as error:
                self.profile_failure = describe_failure(error)
        return self._profile

    @property
    def is_unknown_queue(self) -> bool:
        """Whether a profile was looked up and none fits."""
        return self._looked_up and self._profile is None and self.profile_failure is None

    def read_page_counts(self) -> PageCounts:
        """All pages and free pages, read once in a poll. Raises apsw.Error."""
        if self._page_counts is None:
            if rows := self.shared_reads.fetch_rows(_PAGE_COUNTS, 3):
                pages, free, _ = rows[0]
            else:
                connection = self.require_connection()
                pages, free = connection.pragma("page_count"), connection.pragma("freelist_count")
            self._page_counts = PageCounts(int(pages), int(free))
        return self._page_counts

    def read_quick_counts(self, profile: CompiledProfile) -> QuickCounts:
        """What every poll counts of the queue, read once in a poll. Raises apsw.Error, TimeLimitExceeded, ValueError."""
        if self._quick_counts is None:
            self._quick_counts = read_quick_counts(self.shared_reads, profile, self.now)
        return self._quick_counts

    def read_queue_names(self, profile: CompiledProfile) -> frozenset[str]:
        """The queues that an index names, read with the counts or alone. Raises as `read_quick_counts`."""
        if self._quick_counts is not None:
            return self._quick_counts.names
        return read_queue_names(self.shared_reads, profile)


def expect_page_counts(reads: SharedReads, _profile: CompiledProfile | None, _now: float) -> None:
    """Have the counts of pages read with the other shared reads."""
    reads.fetch_rows(_PAGE_COUNTS, 3)
