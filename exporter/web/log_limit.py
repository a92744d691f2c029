"""Says what was refused, but not without end: whoever may not act must not be able to fill the disk with our log either."""

import logging
import threading

from exporter.log import log_event

LOG = logging.getLogger(__name__)
LOG_WINDOW = 60.0
MAX_LOG_LINES = 30


class RejectionLog:
    """At most MOST lines in each WINDOW seconds; how many more there were is said with the first line after it.

    `what`: how each line begins.
    """

    def __init__(self, what: str = "alerts refused") -> None:
        self._what = what
        self._guard = threading.Lock()
        self._begun = float("-inf")
        self._said = self._unsaid = 0

    def log_rejection(self, code: int, reason: str, peer: str, now: float) -> None:
        """One request was refused. `now`: seconds of a clock that does not jump."""
        with self._guard:
            unsaid = 0
            if now - self._begun >= LOG_WINDOW:
                unsaid, self._begun, self._said, self._unsaid = self._unsaid, now, 0, 0
            self._said += 1
            if self._said > MAX_LOG_LINES:
                self._unsaid += 1
                return
        more = {"refused_unsaid_before": unsaid} if unsaid else {}
        log_event(LOG, logging.WARNING, self._what, code=code, reason=reason, peer=peer, **more)
