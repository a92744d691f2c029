"""A few names out of many, for a sentence."""

from collections.abc import Sequence

SHOWN = 5


def some_of(names: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
