"""Is there room for a full VACUUM? It writes the live bytes twice: a temporary file, then the WAL or the rollback journal."""

from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused
from actions.policy.vacuum_plan import missing_bytes
from actions.sqlite.disk_space import free_bytes
from collectors.disk import temporary_directory

# What is written each time, over the live bytes: measured 1.0 (docs/safety.md).
ROOM_MARGIN = 1.1


def room_needed(live_bytes: int) -> int:
    """Bytes for each of the two."""
    return int(ROOM_MARGIN * live_bytes)


def require_room(work: ActionContext, live_bytes: int) -> None:
    """Raises Refused naming the missing bytes unless both fit, where they lie, beside the reserve."""
    temp, beside = temporary_directory(), work.target.path.parent
    needed, reserve = room_needed(live_bytes), work.target.limits.disk_reserve
    shared = temp.stat().st_dev == beside.stat().st_dev
    places = ((beside, 2 * needed),) if shared else ((beside, needed), (temp, needed))
    for place, bytes_here in places:
        missing = missing_bytes(bytes_here, reserve, free_bytes(place))
        if missing > 0:
            raise Refused(
                f"a full VACUUM writes {bytes_here} bytes in {place} and {reserve} must stay free: {missing} bytes are missing",
                reason="disk_full",
                next_step="free space there, point SQLITE_TMPDIR to a directory with room for the temporary file, or lower "
                "limits.disk_reserve",
            )


def disk_full_error(work: ActionContext, live_bytes: int) -> Failed:
    """What to say when it did not fit after all: SQLite has rolled back, and does not say which of the two was full."""
    temp, beside = temporary_directory(), work.target.path.parent
    needed = room_needed(live_bytes)
    return Failed(
        f"a disk filled up, nothing was changed: a full VACUUM writes {needed} bytes in {temp} ({free_bytes(temp)} are free) "
        f"and {needed} beside the database in {beside} ({free_bytes(beside)} are free)",
        reason="disk_full",
        next_step="free space there, or point SQLITE_TMPDIR to a directory with room for the temporary file",
    )
