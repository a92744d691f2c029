"""How a run can end, and the exit code of each: one table for history, metrics and the command line."""

from enum import StrEnum


class Outcome(StrEnum):
    """How a run ended: the word in history, in `queuekeeper_action_runs_total{outcome}` and on the terminal."""

    DONE = "done"
    NOTHING_TO_DO = "nothing_to_do"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    REFUSED = "refused"
    LOCKED = "locked"
    BLOCKED = "blocked"
    UNVERIFIED = "unverified"


EXIT_CODES: dict[Outcome, int] = {
    Outcome.DONE: 0,
    Outcome.NOTHING_TO_DO: 0,
    Outcome.FAILED: 1,
    Outcome.CANCELLED: 1,
    Outcome.INTERRUPTED: 1,
    Outcome.REFUSED: 3,
    Outcome.LOCKED: 4,
    Outcome.BLOCKED: 4,
    Outcome.UNVERIFIED: 5,
}
USAGE_ERROR = 2


class Effect(StrEnum):
    """Whether an automatic run helped, measured by the metric that triggered it."""

    FIXED = "fixed"
    NO_EFFECT = "no_effect"
    WORSE = "worse"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"
