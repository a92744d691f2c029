"""`queuekeeper readers DB`: who holds locks on a database, who keeps its write lock, and who its write-ahead log."""

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from collectors.raw_reader.client import LockTableUnseen, RawReader, RawReaderUnavailable, sampling_command
from collectors.raw_reader.formats import FIRST_READ_BYTE, WalIndex
from collectors.raw_reader.lock_usage import LockUsage
from collectors.raw_reader.wal_readers import HeldLock, find_checkpoint_lock, find_write_lock, pinning_readers
from collectors.target import Target
from exporter.commands.common_options import database_options
from exporter.commands.database_argument import resolve_target

# Seconds between two looks at the write lock: a person waits only for a moment, so more often than the agent does.
SAMPLE_INTERVAL, MAX_CORE_SHARE = 0.02, 0.1


@dataclass(frozen=True, slots=True)
class DatabaseProcess:
    """One process at the database. `mark`: the newest frame it may need; `holds_back`: frames nobody can copy past it.

    `locks` are words: reads, writes, checkpoints, connected, action. `mark` is None when it does not read the log.
    """

    pid: int
    command: str
    command_line: str
    locks: tuple[str, ...]
    mark: int | None = None
    holds_back: int = 0


@dataclass(frozen=True, slots=True)
class DatabaseProcesses:
    """All processes at the database; `frames` in the log and how many of them are `copied`, None without a log.

    `write_lock`: how busy it was over `seconds`, and who held it in how many samples, for how long at most (seconds).
    """

    database: str
    path: str
    frames: int | None
    copied: int | None
    readers: tuple[DatabaseProcess, ...]
    seconds: float = 0.0
    write_lock: LockUsage = LockUsage()  # noqa: RUF009 - a frozen value


@click.command()
@database_options
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    help="How long to watch the write lock.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object with documented fields (docs/commands.md).")
def readers(db: str, config_file: str | None, state: Path | None, seconds: float, as_json: bool) -> None:
    """Show who holds locks on DB or pins its write-ahead log, and who keeps its write lock busy. Opens no database."""
    target = resolve_target(db, config_file, state)
    try:
        with RawReader(sampling_command(SAMPLE_INTERVAL, MAX_CORE_SHARE)) as raw:
            found = observe_processes(target, raw, seconds)
    except (LockTableUnseen, RawReaderUnavailable, OSError) as error:
        raise click.ClickException(f"cannot see who holds locks on {target.path}: {error}") from error
    click.echo(json.dumps(dataclasses.asdict(found), indent=2) if as_json else processes_in_words(found))


def observe_processes(target: Target, raw: RawReader, seconds: float) -> DatabaseProcesses:
    """Watch the write lock for so many seconds, then see who is there. Raises as RawReader does."""
    use = LockUsage()
    if seconds > 0:
        raw.read_lock_usage(target.path)
        time.sleep(seconds)
        use = raw.read_lock_usage(target.path)
    index, holders = raw.read_wal_index(target.path), raw.find_held_locks(target.path)
    return DatabaseProcesses(
        target.name,
        str(target.path),
        None if index is None else index.frames,
        None if index is None else index.copied,
        group_by_process(index, holders),
        seconds,
        use,
    )


def group_by_process(index: WalIndex | None, holders: Sequence[HeldLock]) -> tuple[DatabaseProcess, ...]:
    """The holders, one entry for each process; who holds back most comes first. Pure."""
    held: dict[int, list[HeldLock]] = {}
    for holder in holders:
        held.setdefault(holder.pid, []).append(holder)
    found = [_describe_process(index, pid, tuple(locks)) for pid, locks in held.items()]
    return tuple(sorted(found, key=lambda reader: (-reader.holds_back, reader.pid)))


def processes_in_words(found: DatabaseProcesses) -> str:
    """What a person at a terminal wants to know: who, with which command, and whether it stands in the way."""
    lines = [_summary_line(found), *_write_lock_lines(found)]
    for reader in found.readers:
        held = f", holds back {reader.holds_back} frames" if reader.holds_back else ""
        mark = "" if reader.mark is None else f" at frame {reader.mark}"
        who = reader.command_line or reader.command or "not visible to us"
        lines.append(f"  pid {reader.pid}  {', '.join(reader.locks)}{mark}{held}  {who}")
    return "\n".join(lines)


def _write_lock_lines(found: DatabaseProcesses) -> Iterator[str]:
    """How busy the write lock was: whoever wants to write waits as long, or is told that the database is locked."""
    use = found.write_lock
    if not use.samples:
        return
    if not use.seen:
        yield "  write lock: unknown; its application is not visible to us (in a container: share the pid namespace)"
        return
    yield f"  write lock: held {use.busy / use.samples:.0%} of the last {found.seconds:g} s ({use.samples} samples)"
    for holder in use.holders:
        share = holder.samples / use.samples
        who = holder.command_line or holder.command or "not visible to us"
        yield f"    pid {holder.pid}  {share:.0%} of the time, {holder.longest:.2f} s at a stretch  {who}"


def _summary_line(found: DatabaseProcesses) -> str:
    log = "no write-ahead log in use"
    if found.frames is not None and found.copied is not None:
        log = f"{found.frames} frames in the log, {max(0, found.frames - found.copied)} not copied yet"
    who = "nobody holds a lock" if not found.readers else f"{len(found.readers)} processes hold locks"
    return f"{found.database}: {log}; {who.replace('1 processes hold', '1 process holds')}"


def _describe_process(index: WalIndex | None, pid: int, locks: tuple[HeldLock, ...]) -> DatabaseProcess:
    pinning = pinning_readers(index, locks) if index is not None else ()
    marks = _read_marks(index, locks)
    return DatabaseProcess(
        pid=pid,
        command=locks[0].command,
        command_line=locks[0].command_line,
        locks=_lock_words(locks),
        mark=min(marks) if marks else None,
        holds_back=max((one.blocks_frames for one in pinning), default=0),
    )


def _read_marks(index: WalIndex | None, locks: Sequence[HeldLock]) -> list[int]:
    if index is None:
        return []
    reads = [lock.row for lock in locks if _is_read_lock(lock)]
    slots = range(len(index.marks))
    return [
        index.marks[slot] if slot else 0 for row in reads for slot in slots if row.covers_byte(FIRST_READ_BYTE + slot)
    ]


def _is_read_lock(lock: HeldLock) -> bool:
    slots = range(FIRST_READ_BYTE, FIRST_READ_BYTE + 5)
    return lock.file == "shm" and lock.row.mode == "READ" and any(lock.row.covers_byte(byte) for byte in slots)


def _lock_words(locks: Sequence[HeldLock]) -> tuple[str, ...]:
    words = {
        "action": any(lock.row.kind == "FLOCK" for lock in locks),
        "writes": find_write_lock(locks) is not None,
        "checkpoints": find_checkpoint_lock(locks) is not None,
        "reads": any(_is_read_lock(lock) for lock in locks),
    }
    return tuple(word for word, true in words.items() if true) or ("connected",)
