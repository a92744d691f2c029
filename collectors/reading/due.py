"""Must a database be opened again, or does what was read of it still hold? Pure.

Cost follows what changed: everything is looked at by stat at each interval, opened is what was written to, what the
clock alone can change, and what could not be read.
"""

from collections.abc import Iterable, Mapping

from collectors.metric import Sample, Since
from collectors.reading.signature import Signature
from collectors.reading.snapshot import Snapshot
from collectors.reading.wal_state import BACKLOG_FRAMES

ANY = "*"
# Metric -> label values: with a value above 0 there, the reading ages.
_AGEING: Mapping[str, tuple[str, ...]] = {
    "sqlite_queue_tasks": ("running", "scheduled"),
    "sqlite_queue_stale_leases": (ANY,),
    "sqlite_queue_workers": ("alive",),
    "sqlite_wal_state": ("unknown", "pinned"),
    "sqlite_wal_pinned_seconds": (ANY,),
}
_PENDING = {"sqlite_wal_frames": 1, "sqlite_wal_checkpointed_frames": -1}
# However quiet the files are: a reading is repeated after this many seconds.
REOPEN_AFTER = 600.0


def reason_to_open(previous: Snapshot | None, found: Signature, now: float) -> str:
    """Why to open it now, "" for no reason. `now`: seconds since the epoch."""
    if previous is None or previous.signature is None:
        return "never read"
    if not previous.signature.settled or not previous.signature.same_as(found):
        return "changed"
    if not 0 <= now - previous.opened_at < REOPEN_AFTER:
        return "long ago"
    if previous.state == "owner_down":
        return ""  # nobody has it open and no file changed: there is nothing to read
    if not previous.up or any(not result.success for result in previous.collectors.values()):
        return "not read"
    return "ages" if previous.ages else ""


def ages(samples: Iterable[Sample]) -> bool:
    """Whether the clock or a reader can make a reading wrong although nobody writes.

    A lease ends, a task falls due, a heartbeat grows old, a reader that pins the WAL leaves. A first look at a WAL
    (`unknown`) needs a second one. A quiet database usually has frames pending, up to its application's checkpoint
    size: those do not age.
    """
    pending = 0.0
    for sample in samples:
        value = sample.at(0) if not isinstance(sample.value, Since) else 1.0
        if value > 0 and any(word in _AGEING.get(sample.metric.name, ()) for word in (*sample.labels, ANY)):
            return True
        pending += value * _PENDING.get(sample.metric.name, 0)
    return pending > BACKLOG_FRAMES
