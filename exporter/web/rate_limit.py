"""Limits the rate of requests: a token bucket for all requests, and a limit of wrong secrets for each address.

Both take the time as a parameter and do no I/O.
"""

import ipaddress
from collections import OrderedDict, deque

MAX_ADDRESSES = 4096


class TokenBucket:
    """A token bucket of one server: one more token each interval, at most a burst of them. Times are in seconds."""

    def __init__(self) -> None:
        self._limit = (0.0, 0)
        self._tokens, self._filled_at = 0.0, 0.0

    def take_token(self, interval: float, burst: int, now: float) -> bool:
        """Take a token and return True, or return False when the bucket is empty.

        An interval of 0 means no limit. A changed limit starts with a full bucket.
        """
        if interval == 0:
            return True
        if (interval, burst) != self._limit:
            self._limit, self._tokens, self._filled_at = (interval, burst), float(burst), now
        self._tokens = min(float(burst), self._tokens + (now - self._filled_at) / interval)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class FailureLimiter:
    """Allows at most `most` failures of an address within `window` seconds; then it must wait that long.

    Memory is bounded: above MAX_ADDRESSES the address that failed longest ago is dropped.
    """

    def __init__(self, most: int, window: float) -> None:
        self._most, self._window = most, window
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str, now: float) -> float:
        """Return the seconds until this address may try again; 0 when it may now."""
        times = self._times.get(_address_network(address))
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[-1] + self._window - now)

    def record_failure(self, address: str, now: float) -> bool:
        """Count one more wrong secret; True when this one reached the limit, so that the address must wait from now on."""
        network = _address_network(address)
        recent = [at for at in self._times.pop(network, ()) if now - at < self._window]
        self._times[network] = deque([*recent, now], maxlen=self._most)
        if len(self._times) > MAX_ADDRESSES:
            self._times.popitem(last=False)
        return len(recent) == self._most - 1

    def clear_failures(self, address: str) -> None:
        """Forget the failures of an address that sent a right secret."""
        self._times.pop(_address_network(address), None)


def _address_network(address: str) -> str:
    """Return the key that failures are counted by: an IPv6 client can choose from a whole /64, so that counts as one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
