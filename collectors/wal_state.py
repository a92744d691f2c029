"""Classifies the state of a WAL from two readings at least half a second apart. Pure.

One reading cannot tell: a busy writer always has some hundred frames pending, and readers come and go.
"""

from dataclasses import dataclass

from collectors.raw_reader.wal_readers import Pin

MIN_DISTANCE = 0.5
# A healthy writer that checkpoints every 1,000 pages (SQLite's default) always has up to that many frames pending.
BACKLOG_FRAMES = 1000
STATES = ("idle", "backlog", "pinned", "reset_starved", "absent", "unknown")


@dataclass(frozen=True, slots=True)
class WalObservation:
    """One observation of a WAL. `at`: seconds since the epoch; `salt`: its generation; `seen`: lock table and index were read.

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
        """Frames that are not yet copied into the database."""
        return self.frames - self.copied


@dataclass(frozen=True, slots=True)
class WalMemory:
    """`earlier` is what the current reading is compared with; `latest` takes its place once it is old enough."""

    earlier: WalObservation | None = None
    latest: WalObservation | None = None


def remember_observation(memory: WalMemory, now: WalObservation) -> WalMemory:
    """The memory after this reading. When readings follow each other too fast, the older one stays to compare with."""
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
    """Whether a process wrote between the readings that the lock table never showed.

    Such a process is in a container that we do not see into (proc(5), pid namespaces): then a pin can be hidden as well.
    """
    wrote = (earlier.salt, earlier.changes) != (now.salt, now.changes)
    return wrote and not earlier.connected and not now.connected


def is_stuck_unseen(earlier: WalObservation, now: WalObservation) -> bool:
    """Whether a backlog stays that no visible process explains, while some processes are hidden."""
    stuck = earlier.salt == now.salt and now.pending_frames > BACKLOG_FRAMES and now.copied == earlier.copied
    return stuck and is_writer_hidden(earlier, now)
