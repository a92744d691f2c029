"""What a collector may look through at one poll of one database."""

from dataclasses import dataclass, field

import apsw

from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.run_queries import QuickCounts, read_queue_names, read_quick_counts
from collectors.raw_reader.client import RawReader
from collectors.raw_reader.formats import DatabaseHeader
from collectors.raw_reader.wal_readers import HeldLock
from collectors.target import Target


@dataclass(frozen=True, slots=True)
class PollContext:
    """`database` is None when no read-only connection may be opened (the owner is down, a preflight refusal).

    `now` is the one clock of the poll, seconds since the epoch. `profile` is None when the schema is no known queue.
    `holders`: who held locks right before we opened, None when nobody could be seen or nobody looked.
    """

    target: Target
    now: float
    raw: RawReader
    header: DatabaseHeader | None
    database: apsw.Connection | None
    profile: CompiledProfile | None
    holders: tuple[HeldLock, ...] | None = None
    _quick: list[QuickCounts] = field(default_factory=list)

    def require_connection(self) -> apsw.Connection:
        """The connection of a collector that NEEDS_DATABASE. Raises RuntimeError when it was run without."""
        if self.database is None:
            raise RuntimeError("this collector was run without a connection")
        return self.database

    def read_quick_counts(self, profile: CompiledProfile) -> QuickCounts:
        """What every poll counts of the queue, read once. Raises apsw.Error, TimeLimitExceeded, ValueError."""
        if not self._quick:
            self._quick.append(read_quick_counts(self.require_connection(), profile, self.now))
        return self._quick[0]

    def read_queue_names(self, profile: CompiledProfile) -> frozenset[str]:
        """The queues that an index names, read with the counts or alone. Raises as `quick_counts`."""
        return self._quick[0].names if self._quick else read_queue_names(self.require_connection(), profile)
