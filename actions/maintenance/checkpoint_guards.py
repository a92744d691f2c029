"""What forbids a checkpoint: the application's SQLite, a reader that pins the log, or one that was tried just before."""

from dataclasses import dataclass

from actions.maintenance.checkpoint_pragma import count_frames
from actions.model.context import ActionContext
from actions.model.errors import GIVEN_UP_BEFORE_TRYING, Blocked, Refused
from actions.model.plan import Figure
from actions.policy.cooldown import CHECKPOINT_PAUSE, may_retry_checkpoint
from actions.sqlite.blockers import ProcessRef, describe_processes, find_lasting_readers, measure_wal_blockers
from actions.sqlite.disk_space import size_or_zero
from collectors.raw_reader.formats import wal_file_bytes
from collectors.wal_state import BACKLOG_FRAMES


@dataclass(frozen=True, slots=True)
class WalStatus:
    """The WAL at one moment: frames, frames already copied, bytes of one page, bytes of the file."""

    frames: int
    copied: int
    page_size: int
    file_bytes: int

    @property
    def pending_frames(self) -> int:
        """Frames that wait to be copied."""
        return self.frames - self.copied

    @property
    def unused_bytes(self) -> int:
        """Bytes of the file after the last frame."""
        return max(0, self.file_bytes - wal_file_bytes(self.frames, self.page_size))

    @property
    def must_shrink(self) -> bool:
        """Whether the file is larger than SQLite's own checkpoints, every 1,000 frames, let it become."""
        return self.file_bytes > wal_file_bytes(BACKLOG_FRAMES, self.page_size)


def read_wal_status(context: ActionContext) -> WalStatus:
    """Read the state of the WAL."""
    file_bytes = size_or_zero(context.target.wal)
    if file_bytes == 0:
        return WalStatus(0, 0, 0, 0)  # without opening: an open of ours would create the file
    return WalStatus(*count_frames(context), file_bytes)


def require_unpinned_wal(context: ActionContext, log: WalStatus) -> str:
    """Measure the state of the WAL. Raises Blocked, naming the readers that pin it: waiting would only stall writers."""
    measured = measure_wal_blockers(context)
    if measured.readers:
        raise Blocked(
            f"{log.pending_frames} of {log.frames} frames are held back by {describe_processes(measured.readers)}; "
            "nothing was tried, since waiting for a reader stalls every writer",
            reason=GIVEN_UP_BEFORE_TRYING,
            next_step="let that process end its read transaction (`queuekeeper readers` shows it); "
            "--mode passive copies what it does not hold back",
            figures={**pragma_counts(1, log.frames, log.copied), **process_figures(measured.readers)},
        )
    return measured.state


def guard_vulnerable(context: ActionContext, mode: str, log: WalStatus) -> None:
    version = context.target.owner_sqlite
    exposure = (
        f"the application's SQLite {version} has"
        if version
        else "nothing proves that the application's SQLite is free of"
    )
    if mode in ("passive", "full", "restart"):
        raise Refused(
            f"{exposure} the WAL-reset bug: a {mode} checkpoint by us can make it lose committed rows",
            reason="owner_vulnerable",
            next_step="use --mode auto (truncates only); or, if the application runs 3.51.3 or newer, say so: "
            "--owner-sqlite 3.51.3 (owner_sqlite in the configuration)",
        )
    readers = find_lasting_readers(context)
    if readers:
        raise Blocked(
            f"a reader holds the WAL, and {exposure} the WAL-reset bug, so a checkpoint that it would stop is not tried: "
            + describe_processes(readers),
            reason=GIVEN_UP_BEFORE_TRYING,
            next_step="let that process end its read transaction; `queuekeeper readers` shows it",
            figures={**pragma_counts(1, log.frames, log.copied), **process_figures(readers)},
        )
    if not may_try_again(context):
        raise Refused(
            f"{exposure} the WAL-reset bug, and the last checkpoint is less than {CHECKPOINT_PAUSE:.0f} s ago",
            reason="owner_vulnerable_pause",
            next_step="wait a minute, or prove the owner with --owner-sqlite",
        )


def may_try_again(context: ActionContext) -> bool:
    """On an owner not proved safe this binds every trigger, else only automatic runs."""
    return may_retry_checkpoint(context.last_attempt, context.now())


def pragma_counts(busy: int, frames: int, copied: int) -> dict[str, Figure]:
    """The numbers of the pragma's row by their names in the figures."""
    return {"busy": busy, "log": frames, "checkpointed": copied}


def process_figures(readers: tuple[ProcessRef, ...]) -> dict[str, Figure]:
    return {"pid": readers[0].pid, "command": readers[0].command} if readers else {}
