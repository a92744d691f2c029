"""What each database held, as its readings showed it: a loss is also seen when it happened while no agent ran.

One row for each database. The agent writes it after its polls; a run that a person accepted as the new state dates it.
"""

from collections.abc import Mapping
from dataclasses import replace

import apsw

from actions.store.database import store_transaction
from collectors.content_loss.memory import ContentMemory, decode_memory, encode_memory


def record_content(history: apsw.Connection, memories: Mapping[str, ContentMemory]) -> None:
    """Record what these databases hold; not over a later acceptance."""
    rows = [(database, encode_memory(memory), memory.accepted_at) for database, memory in memories.items()]
    with store_transaction(history):
        history.executemany(
            "INSERT INTO content_seen VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET memory = excluded.memory, accepted_at = excluded.accepted_at"
            " WHERE accepted_at <= excluded.accepted_at",
            rows,
        )


def accept_content(history: apsw.Connection, database: str, now: float) -> None:
    """Forget what the database held before `now` (seconds since the epoch). Runs inside the caller's transaction or alone."""
    history.execute(
        "INSERT INTO content_seen VALUES (?1, '', ?2) ON CONFLICT DO UPDATE"
        " SET accepted_at = max(accepted_at, excluded.accepted_at)",
        (database, now),
    )


def load_content_memory(history: apsw.Connection, database: str) -> ContentMemory:
    """What is remembered of this database; an empty memory where it was never read."""
    rows = history.execute("SELECT memory, accepted_at FROM content_seen WHERE database = ?", (database,)).fetchall()
    return _memory_of(*rows[0]) if rows else ContentMemory()


def load_content_memories(history: apsw.Connection) -> dict[str, ContentMemory]:
    """What is remembered, by database."""
    rows = history.execute("SELECT database, memory, accepted_at FROM content_seen").fetchall()
    return {str(database): _memory_of(memory, accepted) for database, memory, accepted in rows}


def _memory_of(text: object, accepted: object) -> ContentMemory:
    return replace(decode_memory(str(text)), accepted_at=float(str(accepted)))
