"""`queuekeeper readers DB`: which processes lock a database, hold its write lock, or pin its write-ahead log."""

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from collectors.access.second_name import find_name_problem
from collectors.raw_reader.client import LockTableUnseen, RawReader, RawReaderUnavailable, sampling_command
from collectors.raw_reader.formats import FIRST_READ_BYTE, WalIndex
from collectors.raw_reader.lock_usage import LockUsage
from collectors.raw_reader.wal_readers import HeldLock, find_checkpoint_lock, find_write_lock, pinning_readers
from collectors.target import Target
from exporter.commands.common_options import database_options, json_option
from exporter.commands.database_argument import resolve_target

# Seconds between two samples of the write lock: a person waits only for a moment, so more often than the agent does.
SAMPLE_INTERVAL, MAX_CORE_SHARE = 0.02, 0.1


@dataclass(frozen=True, slots=True)
class DatabaseProcess:
    """One process at the database. `mark`: the newest frame it may need; `holds_back`: frames no checkpoint can copy.

    `locks` are words: reads, writes, checkpoints, connected, action. `mark` is None when the process does not read the log.
    """

    pid: int
    command: str
    command_line: str
    locks: tuple[str, ...]
    mark: int | None = None
    holds_back: int = 0


@dataclass(frozen=True, slots=True)
class DatabaseProcesses:
    """All processes at the database; `frames` in the log, and how many are `copied` back; both None without a log.

    `write_lock`: its usage over `seconds`: in how many samples each process held it, and the longest time in seconds.
    `problem`: why not to work on it by this name, and the next step; else "".
    """

    database: str
    path: str
    frames: int | None
    copied: int | None
    readers: tuple[DatabaseProcess, ...]
    seconds: float = 0.0
    write_lock: LockUsage = LockUsage()  # noqa: RUF009 - a frozen value
    problem: str = ""


@click.command()
@database_options
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    default=1.0,
    show_default=True,
    help="How long to sample the write lock.",
)
@json_option
def readers(db: str, config_file: str | None, state: Path | None, seconds: float, as_json: bool) -> None:
    """Show which processes lock DB, pin its write-ahead log or keep its write lock busy. Opens no database."""
    target = resolve_target(db, config_file, state)
    try:
        with RawReader(sampling_command(SAMPLE_INTERVAL, MAX_CORE_SHARE)) as raw:
            processes = observe_processes(target, raw, seconds)
    except (LockTableUnseen, RawReaderUnavailable, OSError) as error:
        raise click.ClickException(f"cannot see which processes lock {target.path}: {error}") from error
    click.echo(json.dumps(dataclasses.asdict(processes), indent=2) if as_json else processes_in_words(processes))


def observe_processes(target: Target, raw: RawReader, seconds: float) -> DatabaseProcesses:
    """Sample the write lock for `seconds`, then list the processes. Raises as RawReader does."""
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
        _name_problem_in_words(target, raw, holders),
    )


def _name_problem_in_words(target: Target, raw: RawReader, holders: Sequence[HeldLock]) -> str:
    header = raw.read_database_header(target.path)
    wal = header is not None and header.valid and header.wal
    problem = find_name_problem(target.path, raw, holders, wal=wal)
    return "" if problem is None else f"{problem.message}; {problem.cure}"


def group_by_process(index: WalIndex | None, holders: Sequence[HeldLock]) -> tuple[DatabaseProcess, ...]:
    """The lock holders, one entry for each process; the one that holds back the most frames is first. Pure."""
    held: dict[int, list[HeldLock]] = {}
    for holder in holders:
        held.setdefault(holder.pid, []).append(holder)
    processes = [_describe_process(index, pid, tuple(locks)) for pid, locks in held.items()]
    return tuple(sorted(processes, key=lambda reader: (-reader.holds_back, reader.pid)))


def processes_in_words(processes: DatabaseProcesses) -> str:
    """Text for a terminal: each process with its command, its locks and the frames it holds back."""
    lines = [_summary_line(processes), *_write_lock_lines(processes)]
    for reader in processes.readers:
        held = f", holds back {reader.holds_back} frames" if reader.holds_back else ""
        mark = "" if reader.mark is None else f" at frame {reader.mark}"
        command = reader.command_line or reader.command or "not visible to queuekeeper"
        lines.append(f"  pid {reader.pid}  {', '.join(reader.locks)}{mark}{held}  {command}")
    return "\n".join([*lines, processes.problem] if processes.problem else lines)


def _write_lock_lines(processes: DatabaseProcesses) -> Iterator[str]:
    """How busy the write lock was: other writers wait as long, or get the error that the database is locked."""
    use = processes.write_lock
    if not use.samples:
        return
    if not use.seen:
        yield "  write lock: unknown; its application is not visible to queuekeeper (in a container: share the pid namespace)"
        return
    yield f"  write lock: held {use.busy / use.samples:.0%} of the last {processes.seconds:g} s ({use.samples} samples)"
    for holder in use.holders:
        share = holder.samples / use.samples
        command = holder.command_line or holder.command or "not visible to queuekeeper"
        yield f"    pid {holder.pid}  {share:.0%} of the time, {holder.longest:.2f} s at a stretch  {command}"


def _summary_line(processes: DatabaseProcesses) -> str:
    log = "no write-ahead log in use"
    if processes.frames is not None and processes.copied is not None:
        log = f"{processes.frames} frames in the log, {max(0, processes.frames - processes.copied)} not copied yet"
    count = len(processes.readers)
    holders = f"{count} processes hold locks" if count else "no process holds a lock"
    return f"{processes.database}: {log}; {holders.replace('1 processes hold', '1 process holds')}"


def _describe_process(index: WalIndex | None, pid: int, locks: tuple[HeldLock, ...]) -> DatabaseProcess:
    pinning = pinning_readers(index, locks) if index is not None else ()
    marks = _read_marks(index, locks)
    return DatabaseProcess(
        pid=pid,
        command=locks[0].command,
        command_line=locks[0].command_line,
        locks=_lock_words(locks),
        mark=min(marks) if marks else None,
        holds_back=max((pin.blocks_frames for pin in pinning), default=0),
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
