"""A token bucket: one more each interval, at most a burst of them. Pure but for what it holds."""


class TokenBucket:
    """Of one server. Times in seconds."""

    def __init__(self) -> None:
        self._rule = (0.0, 0)
        self._left, self._at = 0.0, 0.0

    def take_token(self, interval: float, burst: int, now: float) -> bool:
        """Take one, if there is one. An interval of 0: no limit. Another rule begins with a full bucket."""
        if interval == 0:
            return True
        if (interval, burst) != self._rule:
            self._rule, self._left, self._at = (interval, burst), float(burst), now
        self._left = min(float(burst), self._left + (now - self._at) / interval)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
