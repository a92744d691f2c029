"""Alert episodes: one firing stretch of one alert at one receiver, by our own state.

Neither `startsAt` (it moves between Prometheus replicas) nor the delivery (Alertmanager repeats them) identifies one:
an episode begins when the alert fires and was not firing here.
"""

from dataclasses import dataclass

import apsw

# A firing alert that nobody repeated for this long is over even if its resolution never arrived, in seconds.
SILENCE = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class EpisodeKey:
    """An alert, for one rule on one database."""

    receiver: str
    fingerprint: str
    rule: str
    database: str


def fires(history: apsw.Connection, key: EpisodeKey, now: float) -> tuple[str, bool]:
    """Note that the alert fires; (the episode's name, whether it begins now). Inside the caller's transaction."""
    row = history.execute(
        "SELECT state, number, seen_at FROM episode WHERE receiver = ? AND fingerprint = ? AND rule = ? AND database = ?",
        _values(key),
    ).fetchone()
    state, number, seen_at = row if row is not None else ("resolved", 0, now)
    begins = state == "resolved" or now - seen_at > SILENCE
    if begins:
        _begin(history, key, number + 1, now)
    else:
        history.execute(
            "UPDATE episode SET seen_at = ?, deliveries = deliveries + 1"
            " WHERE receiver = ? AND fingerprint = ? AND rule = ? AND database = ?",
            (now, *_values(key)),
        )
    return f"{key.fingerprint}/{number + 1 if begins else number}", begins


def resolves(history: apsw.Connection, receiver: str, fingerprint: str, now: float) -> int:
    """Note that the alert resolved; how many episodes that ended. Inside the caller's transaction."""
    history.execute(
        "UPDATE episode SET state = 'resolved', seen_at = ? WHERE receiver = ? AND fingerprint = ? AND state = 'firing'",
        (now, receiver, fingerprint),
    )
    return history.changes()


def _begin(history: apsw.Connection, key: EpisodeKey, number: int, now: float) -> None:
    history.execute(
        "INSERT OR REPLACE INTO episode (receiver, fingerprint, rule, database, state, number, began_at, seen_at, deliveries)"
        " VALUES (?, ?, ?, ?, 'firing', ?, ?, ?, 1)",
        (*_values(key), number, now, now),
    )


def _values(key: EpisodeKey) -> tuple[str, str, str, str]:
    return key.receiver, key.fingerprint, key.rule, key.database
