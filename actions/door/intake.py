"""The one way in: whoever asks, the wish becomes a pending run, or a decision why not.

Cooldown and attempts belong to (database, action), whichever trigger asks, and live in history: they survive restarts.
"""

from dataclasses import dataclass
from typing import Literal

import apsw

from actions.history.runs import ask, is_busy, last_ended
from actions.run.request import Request

Decision = Literal["accepted", "duplicate", "cooldown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """`run_id` is the run that was recorded, or the one that waits already; None when there is none."""

    decision: Decision
    run_id: int | None = None


def ask_for(history: apsw.Connection, request: Request, path: str, now: float) -> Answer:
    """Record an automatic request as a pending run, unless one waits or runs, or the last one is too fresh."""
    if is_busy(history, request.database, request.action):
        return Answer("duplicate")
    last = last_ended(history, request.database, request.action)
    if last is not None and now - last < request.cooldown:
        return Answer("cooldown")
    run_id, new = ask(history, request, path, now)
    return Answer("accepted" if new else "duplicate", run_id)
