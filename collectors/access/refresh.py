"""Decides whether a database must be opened again, or its last readings still hold. Pure.

Cost follows what changed: every database is checked by stat at each interval; those are opened that were written to,
whose values the clock alone can change, or that could not be read.
"""

from collections.abc import Mapping
from typing import Any

from collectors.access.change_detection import FileSignature
from collectors.access.snapshot import Snapshot

# Seconds after which a database is read again even when its files did not change.
REOPEN_AFTER = 600.0


def reason_to_open(previous: Snapshot | None, signature: FileSignature, now: float) -> str:
    """The reason to open it now, "" for none. `now`: seconds since the epoch.

    "never read"; "changed": a file is not as it was before the last reading; "long ago"; "not read": the last poll, or a
    collector, failed; "ages": a reading can become wrong by the clock alone.
    """
    if previous is None or previous.signature is None:
        return "never read"
    if not previous.signature.settled or not previous.signature.is_same_as(signature):
        return "changed"
    if not 0 <= now - previous.opened_at < REOPEN_AFTER:
        return "long ago"
    if previous.state == "owner_down":
        return ""  # no process has it open and no file changed: there is nothing to read
    if not previous.up or any(not result.success for result in previous.collectors.values()):
        return "not read"
    return "ages" if previous.can_age else ""


def any_reading_can_age(readings: Mapping[str, Any]) -> bool:
    """Whether a reading can become wrong without any write, by the clock or by a reader: its `can_age` says so.

    A lease ends, a task falls due, a heartbeat grows old, a reader that pins the WAL leaves. A first look at a WAL
    (`unknown`) needs a second one.
    """
    methods = (getattr(reading, "can_age", None) for reading in readings.values())
    return any(can_age() for can_age in methods if can_age is not None)
