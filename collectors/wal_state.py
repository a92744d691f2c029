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
class Observation:
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
    def pending(self) -> int:
        """Frames that wait to be copied."""
        return self.frames - self.copied


@dataclass(frozen=True, slots=True)
class Memory:
    """`earlier` is what the current reading is compared with; `latest` takes its place once it is old enough."""

    earlier: Observation | None = None
    latest: Observation | None = None


def remembered(memory: Memory, now: Observation) -> Memory:
    """The memory after this reading. Readings that follow each other too fast keep the older one to compare with."""
    if memory.latest is None:
        return Memory(None, now)
    if now.at - memory.latest.at >= MIN_DISTANCE:
        return Memory(memory.latest, now)
    # A clock that jumped back: start again.
    return memory if now.at >= memory.latest.at else Memory(None, now)


def classify(earlier: Observation | None, now: Observation) -> str:
    """The state; docs/metrics.md defines each."""
    if earlier is None or not (earlier.seen and now.seen):
        return "unknown"
    if now.pending > 0 and earlier.pins & now.pins:
        return "pinned"
    same_generation = earlier.salt == now.salt
    if same_generation and now.copied > earlier.copied and now.frames > earlier.frames:
        return "reset_starved"
    if same_generation and now.pending > BACKLOG_FRAMES and now.copied == earlier.copied:
        return "unknown" if hidden(earlier, now) else "backlog"
    return "idle"


def hidden(earlier: Observation, now: Observation) -> bool:
    """Somebody wrote between the readings and nobody was ever seen: the lock table does not show their process.

    So it is in a container whose processes we do not see (proc(5), pid namespaces): "nobody pins" cannot be said.
    """
    wrote = (earlier.salt, earlier.changes) != (now.salt, now.changes)
    return wrote and not earlier.connected and not now.connected


def stuck_unseen(earlier: Observation, now: Observation) -> bool:
    """A backlog that nobody visible explains, where not everybody is visible."""
    stuck = earlier.salt == now.salt and now.pending > BACKLOG_FRAMES and now.copied == earlier.copied
    return stuck and hidden(earlier, now)
