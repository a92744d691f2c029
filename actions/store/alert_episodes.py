"""Stores alert episodes. The decisions about them are in actions/policy/episodes.py.

Every function runs inside its caller's transaction.
"""

from dataclasses import dataclass

import apsw

from actions.model.outcome import Effect, Outcome
from actions.policy.episodes import EPISODE_TIMEOUT, Episode, EpisodeRun

# An episode that has been over for this long is deleted: its number starts again, nothing else depends on it.
EPISODE_RETENTION = 4 * EPISODE_TIMEOUT
_COLUMNS = ", ".join(Episode.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class EpisodeKey:
    """Identifies an episode: an alert at one receiver, for one rule on one database."""

    receiver: str
    fingerprint: str
    rule: str
    database: str

    def episode_id(self, episode: Episode) -> str:
        """The text by which a run names the episode that requested it."""
        return f"{self.fingerprint}/{episode.number}"


def load_episode(history: apsw.Connection, key: EpisodeKey) -> Episode | None:
    """The stored episode; None without one."""
    row = history.execute(
        f"SELECT {_COLUMNS} FROM alert_episode WHERE receiver = ? AND fingerprint = ? AND rule = ? AND database = ?",  # noqa: S608
        _key_values(key),
    ).fetchone()
    return None if row is None else Episode(*row)


def save_episode(history: apsw.Connection, key: EpisodeKey, now: Episode) -> None:
    """Insert or replace the episode."""
    values = tuple(getattr(now, name) for name in Episode.__dataclass_fields__)
    history.execute(
        f"INSERT OR REPLACE INTO alert_episode (receiver, fingerprint, rule, database, {_COLUMNS})"  # noqa: S608
        f" VALUES (?, ?, ?, ?{', ?' * len(values)})",
        (*_key_values(key), *values),
    )


def firing_episodes(history: apsw.Connection, receiver: str, fingerprint: str) -> list[tuple[EpisodeKey, Episode]]:
    """The episodes of this alert that are not over, of all rules and databases."""
    rows = history.execute(
        f"SELECT rule, database, {_COLUMNS} FROM alert_episode WHERE receiver = ? AND fingerprint = ? AND state = 'firing'",  # noqa: S608
        (receiver, fingerprint),
    )
    return [(EpisodeKey(receiver, fingerprint, rule, database), Episode(*rest)) for rule, database, *rest in rows]


def is_run_wanted(history: apsw.Connection, run_id: int) -> bool:
    """Whether an alert that waits for this run is still firing."""
    exists = history.execute(
        "SELECT EXISTS (SELECT 1 FROM alert_episode WHERE run_id = ? AND state = 'firing')", (run_id,)
    )
    return bool(exists.get)


def load_episode_run(history: apsw.Connection, run_id: int | None) -> EpisodeRun | None:
    """How an episode's newest run ended; None when it has had none."""
    if run_id is None:
        return None
    row = history.execute("SELECT ended_at, outcome, effect FROM run WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        return None
    ended_at, outcome, effect = row
    return EpisodeRun(ended_at, Outcome(outcome) if outcome else None, Effect(effect) if effect else None)


def delete_old_episodes(history: apsw.Connection, now: float) -> None:
    """Delete episodes that were over long ago: a client of the webhook can invent any number of alerts."""
    history.execute("DELETE FROM alert_episode WHERE seen_at < ?", (now - EPISODE_RETENTION,))


def _key_values(key: EpisodeKey) -> tuple[str, str, str, str]:
    return key.receiver, key.fingerprint, key.rule, key.database
