"""How long ago something was, by a wall clock that may be set back. Pure."""

# A clock that was set back further than this is another clock: what it wrote before is no longer waited for, in seconds.
CLOCK_SET_BACK = 3600.0


def elapsed_seconds(then: float, now: float) -> float:
    """Seconds since `then`; 0 when it lies a little ahead (a small step back), endless when far ahead of `now`."""
    if then - now > CLOCK_SET_BACK:
        return float("inf")
    return max(0.0, now - then)
