"""A few names out of many, for a sentence."""

from collections.abc import Sequence

SHOWN_NAMES = 5


def join_first(names: Sequence[str]) -> str:
    """Join the first SHOWN_NAMES names and say how many more there are."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
