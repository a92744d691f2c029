"""Where alert episodes are kept. What becomes of one is decided in actions/policy/episodes.py.

Every function works inside its caller's transaction.
"""

from dataclasses import dataclass

import apsw

from actions.model.outcome import Effect, Outcome
from actions.policy.episodes import EPISODE_TIMEOUT, Episode, EpisodeRun

# An episode that is over for this long is forgotten: its number starts again, nothing else depends on it.
EPISODE_RETENTION = 4 * EPISODE_TIMEOUT
_COLUMNS = ", ".join(Episode.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class EpisodeKey:
    """An alert, for one rule on one database."""

    receiver: str
    fingerprint: str
    rule: str
    database: str

    def episode_id(self, episode: Episode) -> str:
        """How a run names the episode that asked for it."""
        return f"{self.fingerprint}/{episode.number}"


def load_episode(history: apsw.Connection, key: EpisodeKey) -> Episode | None:
    """The episode that is known."""
    row = history.execute(
        f"SELECT {_COLUMNS} FROM alert_episode WHERE receiver = ? AND fingerprint = ? AND rule = ? AND database = ?",  # noqa: S608
        _key_values(key),
    ).fetchone()
    return None if row is None else Episode(*row)


def save_episode(history: apsw.Connection, key: EpisodeKey, now: Episode) -> None:
    """Write it down."""
    values = tuple(getattr(now, name) for name in Episode.__dataclass_fields__)
    history.execute(
        f"INSERT OR REPLACE INTO alert_episode (receiver, fingerprint, rule, database, {_COLUMNS})"  # noqa: S608
        f" VALUES (?, ?, ?, ?{', ?' * len(values)})",
        (*_key_values(key), *values),
    )


def firing_episodes(history: apsw.Connection, receiver: str, fingerprint: str) -> list[tuple[EpisodeKey, Episode]]:
    """The episodes of this alert that are not over, for whichever rules and databases."""
    rows = history.execute(
        f"SELECT rule, database, {_COLUMNS} FROM alert_episode WHERE receiver = ? AND fingerprint = ? AND state = 'firing'",  # noqa: S608
        (receiver, fingerprint),
    )
    return [(EpisodeKey(receiver, fingerprint, rule, database), Episode(*rest)) for rule, database, *rest in rows]


def is_run_wanted(history: apsw.Connection, run_id: int) -> bool:
    """Whether an alert still fires that counts on this run."""
    found = history.execute(
        "SELECT EXISTS (SELECT 1 FROM alert_episode WHERE run_id = ? AND state = 'firing')", (run_id,)
    )
    return bool(found.get)


def load_episode_run(history: apsw.Connection, run_id: int | None) -> EpisodeRun | None:
    """What became of an episode's newest run; None when it has had none."""
    if run_id is None:
        return None
    row = history.execute("SELECT ended_at, outcome, effect FROM run WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        return None
    ended_at, outcome, effect = row
    return EpisodeRun(ended_at, Outcome(outcome) if outcome else None, Effect(effect) if effect else None)


def delete_old_episodes(history: apsw.Connection, now: float) -> None:
    """Forget what was over long ago: whoever may ask can invent as many alerts as he likes."""
    history.execute("DELETE FROM alert_episode WHERE seen_at < ?", (now - EPISODE_RETENTION,))


def _key_values(key: EpisodeKey) -> tuple[str, str, str, str]:
    return key.receiver, key.fingerprint, key.rule, key.database
