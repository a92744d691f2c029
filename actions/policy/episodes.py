"""Alert episodes: one firing stretch of one alert at one receiver, by our own state. Pure.

Neither `startsAt` (it moves between Prometheus replicas) nor the delivery (Alertmanager repeats them, and a pair of them
sends twice) identifies one: an episode begins when the alert fires and was not firing here. It gets one run. A delivery
soon after that run is a duplicate: the pair's other half, an answer that got lost, a replay. A later one is
Alertmanager's repeat: the alert still fires, so the run did not help, or not for long. Then it gets another run, after a
cooldown that doubles as long as no run helps, at most MAX_TRIES runs in all.
"""

from dataclasses import dataclass, replace
from typing import Literal

from actions.model.outcome import Effect, Outcome
from actions.policy.cooldown import elapsed_seconds, episode_cooldown

# A firing alert that was not repeated for this long is over even if its resolution never arrived, in seconds.
EPISODE_TIMEOUT = 7 * 86400.0
# Two halves of a pair send within the peer timeout (15 s by default), a lost answer is retried after 10 s or a group
# interval: a delivery this soon after the run's end is no repeat, in seconds.
DUPLICATE_WITHIN = 60.0
MAX_TRIES = 6

# A run that ended like this did not get to its work: the episode has not had its run yet.
_NOT_BEGUN_OUTCOMES = (Outcome.LOCKED, Outcome.INTERRUPTED)
_RETRY_OUTCOMES = (*_NOT_BEGUN_OUTCOMES, Outcome.REFUSED, Outcome.BLOCKED)


@dataclass(frozen=True, slots=True)
class Episode:
    """The state of one alert, for one rule on one database. Times in seconds since the epoch.

    `run_id`: the newest run for it. `tries`: runs since one helped. `deliveries`: how many deliveries reported it as firing.
    """

    state: Literal["firing", "resolved"]
    number: int
    began_at: float
    seen_at: float
    deliveries: int = 1
    run_id: int | None = None
    tries: int = 0


@dataclass(frozen=True, slots=True)
class EpisodeRun:
    """The newest run of an episode; `ended_at` is None while it is pending or active."""

    ended_at: float | None
    outcome: Outcome | None = None
    effect: Effect | None = None

    @property
    def has_helped(self) -> bool:
        """Whether it fixed the condition, or found it clear."""
        return self.effect is Effect.FIXED or (self.outcome is Outcome.NOTHING_TO_DO and self.effect is None)


DeliveryDecision = Literal["enqueue", "duplicate", "cooldown", "disabled"]


def on_firing(before: Episode | None, now: float) -> Episode:
    """The episode after a delivery that reports the alert as firing."""
    if before is not None and before.state == "firing" and elapsed_seconds(before.seen_at, now) <= EPISODE_TIMEOUT:
        return replace(before, seen_at=now, deliveries=before.deliveries + 1)
    return Episode("firing", 1 if before is None else before.number + 1, now, now)


def on_resolved(before: Episode, now: float) -> Episode:
    """The episode after a delivery that reports the alert as resolved."""
    return replace(before, state="resolved", seen_at=now)


def decide_delivery(episode: Episode, last: EpisodeRun | None, cooldown: float, now: float) -> DeliveryDecision:
    """Whether this delivery enqueues a run. `last` is None when the episode has had none; `cooldown` in seconds."""
    if last is None:
        return "enqueue"
    if last.ended_at is None:
        return "duplicate"
    if last.outcome in _RETRY_OUTCOMES:
        return "enqueue"
    since = elapsed_seconds(last.ended_at, now)
    if since < DUPLICATE_WITHIN:
        return "duplicate"
    if last.has_helped:
        return "enqueue"
    if episode.tries >= MAX_TRIES:
        return "disabled"
    return "enqueue" if since >= episode_cooldown(cooldown, episode.tries) else "cooldown"


def on_enqueued(episode: Episode, last: EpisodeRun | None, run_id: int) -> Episode:
    """The episode after its run was enqueued, or after an unfinished run was found that serves it as well."""
    tries = 0 if last is None or last.has_helped else episode.tries
    return replace(episode, run_id=run_id, tries=tries + 1)
