"""Which state a WAL is in, from two readings at least half a second apart. Pure.

One reading cannot tell: a busy writer always has some hundred frames pending, and readers come and go.
"""

from dataclasses import dataclass

MIN_DISTANCE = 0.5
# A healthy writer that checkpoints every 1,000 pages (SQLite's default) always has up to that many frames pending.
BACKLOG_FRAMES = 1000
STATES = ("idle", "backlog", "pinned", "reset_starved", "absent", "unknown")

# Process, lock byte, read mark.
Pin = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class WalObservation:
    """One look at a WAL. `at`: seconds since the epoch; `salt`: its generation; `seen`: lock table and index were read.

    `connected`: a process other than ours is seen to have the database open.
    """

    at: float
    salt: str
    changes: int
    frames: int
    copied: int
    pins: frozenset[Pin]
    seen: bool
    connected: bool = False

    @property
    def pending_frames(self) -> int:
        """Frames that wait to be copied."""
        return self.frames - self.copied


@dataclass(frozen=True, slots=True)
class WalMemory:
    """`earlier` is what the current reading is compared with; `latest` takes its place once it is old enough."""

    earlier: WalObservation | None = None
    latest: WalObservation | None = None


def remember_observation(memory: WalMemory, now: WalObservation) -> WalMemory:
    """The memory after this reading. Readings that follow each other too fast keep the older one to compare with."""
    if memory.latest is None:
        return WalMemory(None, now)
    if now.at - memory.latest.at >= MIN_DISTANCE:
        return WalMemory(memory.latest, now)
    # A clock that jumped back: start again.
    return memory if now.at >= memory.latest.at else WalMemory(None, now)


def classify_wal(earlier: WalObservation | None, now: WalObservation) -> str:
    """The state; docs/metrics.md defines each."""
    if earlier is None or not (earlier.seen and now.seen):
        return "unknown"
    if now.pending_frames > 0 and earlier.pins & now.pins:
        return "pinned"
    same_generation = earlier.salt == now.salt
    if same_generation and now.copied > earlier.copied and now.frames > earlier.frames:
        return "reset_starved"
    if same_generation and now.pending_frames > BACKLOG_FRAMES and now.copied == earlier.copied:
        return "unknown" if is_writer_hidden(earlier, now) else "backlog"
    return "idle"


def is_writer_hidden(earlier: WalObservation, now: WalObservation) -> bool:
    """Somebody wrote between the readings and nobody was ever seen: the lock table does not show their process.

    So it is in a container whose processes we do not see (proc(5), pid namespaces): "nobody pins" cannot be said.
    """
    wrote = (earlier.salt, earlier.changes) != (now.salt, now.changes)
    return wrote and not earlier.connected and not now.connected


def is_stuck_unseen(earlier: WalObservation, now: WalObservation) -> bool:
    """A backlog that nobody visible explains, where not everybody is visible."""
    stuck = earlier.salt == now.salt and now.pending_frames > BACKLOG_FRAMES and now.copied == earlier.copied
    return stuck and is_writer_hidden(earlier, now)
