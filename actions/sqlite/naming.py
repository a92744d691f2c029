"""Names of tables and indexes: quoted for a statement, and a few out of many for a sentence."""

from collections.abc import Sequence

SHOWN_NAMES = 5


def quote_identifier(name: str) -> str:
    """Quote a name so that SQL reads it as an identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def join_first(names: Sequence[str]) -> str:
    """Join the first SHOWN_NAMES names and say how many more there are."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
