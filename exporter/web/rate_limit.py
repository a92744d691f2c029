"""How often somebody may be wrong about a secret before they must wait. Per address; pure but for what it remembers."""

import ipaddress
from collections import OrderedDict, deque

MAX_ADDRESSES = 4096


class FailureLimiter:
    """At most `most` within `window` seconds: then so many seconds of rest, and the count begins anew.

    What is remembered is bounded: of many addresses the oldest is forgotten.
    """

    def __init__(self, most: int, window: float) -> None:
        self._most, self._window = most, window
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_seconds(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        times = self._times.get(_address_network(address))
        if times is None or len(times) < self._most:
            return 0.0
        return max(0.0, times[-1] + self._window - now)

    def record_failure(self, address: str, now: float) -> bool:
        """It was wrong once more. Whether that was once too often: from now on it must wait."""
        network = _address_network(address)
        recent = [at for at in self._times.pop(network, ()) if now - at < self._window]
        self._times[network] = deque([*recent, now], maxlen=self._most)
        if len(self._times) > MAX_ADDRESSES:
            self._times.popitem(last=False)
        return len(recent) == self._most - 1

    def clear_failures(self, address: str) -> None:
        """It was right."""
        self._times.pop(_address_network(address), None)


def _address_network(address: str) -> str:
    """One household: an IPv6 user has a whole /64 to choose from."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
