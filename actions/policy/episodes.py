"""Alert episodes: one firing stretch of one alert at one receiver, by our own state. Pure.

Neither `startsAt` (it moves between Prometheus replicas) nor the delivery (Alertmanager repeats them, and a pair of them
sends twice) identifies one: an episode begins when the alert fires and was not firing here. It gets one run. What comes
soon after that run is the same news again: the pair's other half, an answer that got lost, a replay. What comes later is
Alertmanager's repeat: the alert still fires, so the run did not help, or not for long. Then it gets another one, after a
rest that doubles as long as nothing helps, at most TRIES in all.
"""

from dataclasses import dataclass, replace
from typing import Literal

from actions.model.outcome import Effect, Outcome
from actions.policy.elapsed import elapsed

# A firing alert that nobody repeated for this long is over even if its resolution never arrived, in seconds.
SILENCE = 7 * 86400.0
# Two halves of a pair send within the peer timeout (15 s by default), a lost answer is retried after 10 s or a group
# interval: a delivery this soon after the run's end is no repeat, in seconds.
SAME_NEWS = 60.0
TRIES = 6
LONGEST_REST = 86400.0

# A run that ended like this did not get to its work: the episode has not had its run yet.
_NOT_BEGUN = (Outcome.LOCKED, Outcome.INTERRUPTED)
_KEPT = (*_NOT_BEGUN, Outcome.REFUSED, Outcome.BLOCKED)


@dataclass(frozen=True, slots=True)
class Episode:
    """Where one alert stands, for one rule on one database. Times in seconds since the epoch.

    `run_id`: the newest run for it. `tries`: runs since one helped. `deliveries`: how often it was told to fire.
    """

    state: Literal["firing", "resolved"]
    number: int
    began_at: float
    seen_at: float
    deliveries: int = 1
    run_id: int | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run of an episode; `ended_at` is None while it waits or works."""

    ended_at: float | None
    outcome: Outcome | None = None
    effect: Effect | None = None

    @property
    def helped(self) -> bool:
        """Whether it healed what was wrong, or found it healed."""
        return self.effect is Effect.FIXED or (self.outcome is Outcome.NOTHING_TO_DO and self.effect is None)


Heard = Literal["ask", "duplicate", "cooldown", "disabled"]


def fires(before: Episode | None, now: float) -> Episode:
    """The episode after a delivery that says that the alert fires."""
    if before is not None and before.state == "firing" and elapsed(before.seen_at, now) <= SILENCE:
        return replace(before, seen_at=now, deliveries=before.deliveries + 1)
    return Episode("firing", 1 if before is None else before.number + 1, now, now)


def resolves(before: Episode, now: float) -> Episode:
    """The episode after a delivery that says that the alert is over."""
    return replace(before, state="resolved", seen_at=now)


def hear(episode: Episode, last: LastRun | None, cooldown: float, now: float) -> Heard:
    """Whether this delivery is to ask for a run. `last` is None when the episode has had none; `cooldown` in seconds."""
    if last is None:
        return "ask"
    if last.ended_at is None:
        return "duplicate"
    if last.outcome in _KEPT:
        return "ask"
    since = elapsed(last.ended_at, now)
    if since < SAME_NEWS:
        return "duplicate"
    if last.helped:
        return "ask"
    if episode.tries >= TRIES:
        return "disabled"
    return "ask" if since >= _rest(episode, cooldown) else "cooldown"


def asked(episode: Episode, last: LastRun | None, run_id: int) -> Episode:
    """The episode after a run was asked for, or after it found one waiting or working that serves it as well."""
    tries = 0 if last is None or last.helped else episode.tries
    return replace(episode, run_id=run_id, tries=tries + 1)


def _rest(episode: Episode, cooldown: float) -> float:
    return min(LONGEST_REST, cooldown * 2.0 ** max(0, episode.tries - 1))
