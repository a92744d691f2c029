"""Logs rejected requests at a limited rate, so that a client without rights cannot fill the disk with our log."""

import logging
import threading

from exporter.log import log_event

LOG = logging.getLogger(__name__)
LOG_WINDOW = 60.0
MAX_LOG_LINES = 30


class RejectionLog:
    """Logs at most MAX_LOG_LINES lines in LOG_WINDOW seconds; the first line after it says how many were left out.

    Each line starts with `what`.
    """

    def __init__(self, what: str = "alerts rejected") -> None:
        self._what = what
        self._guard = threading.Lock()
        self._begun = float("-inf")
        self._logged = self._omitted = 0

    def log_rejection(self, code: int, reason: str, peer: str, now: float) -> None:
        """Log the rejection of one request. `now` is in seconds of a monotonic clock."""
        with self._guard:
            omitted = 0
            if now - self._begun >= LOG_WINDOW:
                omitted, self._begun, self._logged, self._omitted = self._omitted, now, 0, 0
            self._logged += 1
            if self._logged > MAX_LOG_LINES:
                self._omitted += 1
                return
        more = {"rejections_not_logged": omitted} if omitted else {}
        log_event(LOG, logging.WARNING, self._what, code=code, reason=reason, peer=peer, **more)
