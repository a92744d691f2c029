"""Chains the records of history by hash: each entry holds the digest of a run as it was written, and the hash before it.

An entry is appended in the transaction that changes the run, so a crash leaves both or neither, and writers of several
processes take turns by SQLite's write lock. What this shows and what not: docs/security.md. Every function that appends
runs inside its caller's transaction.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import apsw

# The columns of a run that its digest covers. Fixed: with a column more, the digests of all earlier runs would differ.
CHAINED_COLUMNS = (
    "id", "database", "path", "action", "request", "trigger", "rule", "episode", "priority", "state", "token", "claimer",
    "child", "requested_at", "claimed_at", "started_at", "ended_at", "plan", "before", "after", "outcome", "reason",
    "message", "next_step", "figures", "effect",
)  # fmt: skip
# Events of a run that tell of a change from outside, seen before our own next change of it.
CHANGED: Final = "changed"
INSERTED: Final = "inserted"
# The chain of a history that an earlier version began, and each of its runs, as it was when this one first opened the history.
BEGAN, SEALED = "began", "sealed"
PAUSED, RESUMED, CANCEL_ASKED, REQUESTED = "paused", "resumed", "cancel_asked", "requested"

Value = bytes | float | int | None
_HEAD_SETTING = "chain_head"
_ENTRY_COLUMNS = ("sequence", "at", "event", "run_id", "who", "detail", "content", "hash")


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """One entry. `at`: seconds since the epoch, None where the change has no time; `content`: digest of the run after it."""

    sequence: int
    at: float | None
    event: str
    run_id: int | None
    who: str
    detail: str
    content: str
    hash: str


def raw_columns(names: Sequence[str], table: str) -> str:
    """SQL that reads these columns, text as bytes: text that was changed by hand need not be valid UTF-8."""
    return ", ".join(f"iif(typeof({table}.{n}) = 'text', CAST({table}.{n} AS BLOB), {table}.{n})" for n in names)


_SELECT_RUN = f"SELECT {raw_columns(CHAINED_COLUMNS, 'run')} FROM run"  # noqa: S608 our own column names
_SELECT_ENTRY = f"SELECT {raw_columns(_ENTRY_COLUMNS, 'chain')} FROM chain"  # noqa: S608


def digest_values(values: Sequence[Value]) -> str:
    """The SHA-256 of these values, each with its type and length, so that no two rows are written alike."""
    parts: list[bytes] = []
    for value in values:
        match value:
            case None:
                parts.append(b"n")
            case float():
                parts.append(b"r" + struct.pack(">d", value))
            case int():
                parts.append(b"i%d;" % value)
            case _:
                parts.append(b"t%d;%b" % (len(value), value))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def hash_entry(entry: ChainEntry, previous: str) -> str:
    """The hash that this entry must have after the entry with the hash `previous` (empty for the first)."""
    words = (entry.event, entry.who, entry.detail, entry.content, previous)
    return digest_values((entry.sequence, entry.at, entry.run_id, *(_text_bytes(word) for word in words)))


def append_entry(
    history: apsw.Connection,
    event: str,
    now: float | None,
    *,
    run_id: int | None = None,
    who: str = "",
    detail: str = "",
    content: str = "",
) -> None:
    """Append one entry to the chain. Its cost does not grow with the chain."""
    sequence, previous = _next_place(history)
    at = None if now is None else float(now)
    unhashed = ChainEntry(sequence, at, event, run_id, who, detail, content, "")
    digest = hash_entry(unhashed, previous)
    values = (sequence, at, event, run_id, who, detail, content, digest)
    history.execute("INSERT INTO chain VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    history.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (_HEAD_SETTING, f"{sequence} {digest}"))


def append_run_entry(history: apsw.Connection, event: str, run_id: int, now: float | None, who: str = "") -> None:
    """Append an entry about this run, whose row it does not change, or which is new."""
    content = run_digest(history, run_id) or ""
    if event != REQUESTED:
        _record_foreign_change(history, run_id, content, now)
    append_entry(history, event, now, run_id=run_id, who=who, content=content)


@contextmanager
def chained_change(
    history: apsw.Connection, run_id: int, event: str, now: float | None, who: str = ""
) -> Iterator[None]:
    """Append an entry for what its block changes of this run, none when it changes nothing.

    A run that is not as its newest entry says was changed from outside: an entry records that first, so that our own
    change does not cover it.
    """
    before = run_digest(history, run_id)
    yield
    after = run_digest(history, run_id)
    if after is None or after == before:
        return
    if before is not None:
        _record_foreign_change(history, run_id, before, now)
    append_entry(history, event, now, run_id=run_id, who=who, content=after)


def run_digest(history: apsw.Connection, run_id: int) -> str | None:
    """The digest of a run's row as it is now; None when there is none."""
    for row in history.execute(f"{_SELECT_RUN} WHERE id = ?", (run_id,)):
        return digest_values(row)
    return None


def run_digests(history: apsw.Connection) -> Iterator[tuple[int, str]]:
    """(id, digest) of every run as it is now, by id."""
    for row in history.execute(f"{_SELECT_RUN} ORDER BY id"):
        yield row[0], digest_values(row)


def seal_earlier_runs(history: apsw.Connection, now: float) -> None:
    """Append an entry for each run that an earlier version recorded, so that a change from now on is seen.

    Before them one with the highest number that a run had: which runs were deleted until now is not our knowledge.
    """
    if not (highest := highest_number(history, "run")):
        return
    append_entry(history, BEGAN, now, detail=str(highest))
    for run_id, digest in list(run_digests(history)):
        append_entry(history, SEALED, now, run_id=run_id, content=digest)
    why = history.execute("SELECT value FROM setting WHERE name = 'paused'").get
    if why is not None:
        append_entry(history, PAUSED, now, detail=why)


def read_entry(history: apsw.Connection, sequence: int | None) -> ChainEntry | None:
    """The entry with this number; None when there is none."""
    for row in history.execute(f"{_SELECT_ENTRY} WHERE sequence = ?", (sequence,)):
        return _entry_from_row(row)
    return None


def all_entries(history: apsw.Connection) -> Iterator[ChainEntry]:
    """Every entry, the oldest first."""
    for row in history.execute(f"{_SELECT_ENTRY} ORDER BY sequence"):
        yield _entry_from_row(row)


def newest_pauses(history: apsw.Connection, limit: int, since: float = 0.0) -> list[ChainEntry]:
    """The newest entries of pauses and their ends at or after `since` (seconds since the epoch), newest first."""
    rows = history.execute(
        f"{_SELECT_ENTRY} WHERE run_id IS NULL AND event IN ('{PAUSED}', '{RESUMED}') AND at >= ?"
        " ORDER BY sequence DESC LIMIT ?",
        (since, limit),
    )
    return [_entry_from_row(row) for row in rows]


def recorded_head(history: apsw.Connection) -> tuple[int, str]:
    """(number, hash) of the newest entry, as a second place says; (0, "") when it does not say."""
    value = history.execute("SELECT value FROM setting WHERE name = ?", (_HEAD_SETTING,)).get
    number, _, digest = str(value).partition(" ")
    return (int(number), digest) if number.isascii() and number.isdigit() else (0, "")


def highest_number(history: apsw.Connection, table: str) -> int:
    """The highest number that SQLite gave to a row of this table, whether the row is still there or not."""
    return int(history.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).get or 0)


def _next_place(history: apsw.Connection) -> tuple[int, str]:
    """The number of the next entry and the hash before it. A number that was once given is not given again."""
    number, digest = recorded_head(history)
    highest = max(number, highest_number(history, "chain"))
    if not digest:
        last = read_entry(history, history.execute("SELECT max(sequence) FROM chain").get)
        digest = "" if last is None else last.hash
    return highest + 1, digest


def _record_foreign_change(history: apsw.Connection, run_id: int, digest: str, now: float | None) -> None:
    number = history.execute("SELECT max(sequence) FROM chain WHERE run_id = ?", (run_id,)).get
    entry = read_entry(history, number)
    if entry is None or entry.content != digest:
        append_entry(history, INSERTED if entry is None else CHANGED, now, run_id=run_id, content=digest)


def _entry_from_row(row: Sequence[Value]) -> ChainEntry:
    sequence, at, event, run_id, who, detail, content, digest = row
    return ChainEntry(
        sequence=int(sequence or 0),
        at=float(at) if isinstance(at, int | float) else None,
        event=_decode_word(event),
        run_id=run_id if isinstance(run_id, int) else None,
        who=_decode_word(who),
        detail=_decode_word(detail),
        content=_decode_word(content),
        hash=_decode_word(digest),
    )


def _decode_word(value: Value) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _text_bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
