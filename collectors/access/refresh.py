"""Must a database be opened again, or does what was read of it still hold? Pure.

Cost follows what changed: everything is looked at by stat at each interval, opened is what was written to, what the
clock alone can change, and what could not be read.
"""

from collections.abc import Mapping
from typing import Any

from collectors.access.change_detection import FileSignature
from collectors.access.snapshot import Snapshot

# However quiet the files are: a reading is repeated after this many seconds.
REOPEN_AFTER = 600.0


def reason_to_open(previous: Snapshot | None, found: FileSignature, now: float) -> str:
    """Why to open it now, "" for no reason. `now`: seconds since the epoch."""
    if previous is None or previous.signature is None:
        return "never read"
    if not previous.signature.settled or not previous.signature.is_same_as(found):
        return "changed"
    if not 0 <= now - previous.opened_at < REOPEN_AFTER:
        return "long ago"
    if previous.state == "owner_down":
        return ""  # nobody has it open and no file changed: there is nothing to read
    if not previous.up or any(not result.success for result in previous.collectors.values()):
        return "not read"
    return "ages" if previous.can_age else ""


def any_reading_can_age(readings: Mapping[str, Any]) -> bool:
    """Whether the clock or a reader can make a reading wrong although nobody writes: their collectors say it.

    A lease ends, a task falls due, a heartbeat grows old, a reader that pins the WAL leaves. A first look at a WAL
    (`unknown`) needs a second one.
    """
    found = (getattr(reading, "can_age", None) for reading in readings.values())
    return any(one() for one in found if one is not None)
