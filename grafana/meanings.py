"""What a colour means: one for each word that a series ends with, the same on every panel. Others take the palette's."""

from collections.abc import Iterator, Mapping

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, FieldColorModeId

GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "text"

OUTCOMES = {
    "done": GREEN, "nothing_to_do": BLUE, "refused": PURPLE, "locked": YELLOW, "blocked": ORANGE, "cancelled": YELLOW,
    "interrupted": ORANGE, "failed": RED, "unverified": RED,
}  # fmt: skip
EFFECTS = {"fixed": GREEN, "blocked": ORANGE, "no_effect": RED, "worse": RED, "unknown": PURPLE}
TASKS = {
    "done": GREEN, "waiting": YELLOW, "scheduled": PURPLE, "running": BLUE, "failed": ORANGE, "dead": RED,
}  # fmt: skip
WORKERS = {"alive": GREEN, "stale": RED}
BACKUPS = {"verified": GREEN, "unverified": ORANGE, "failed": RED}
DATABASES = {"readable": GREEN, "found": BLUE, "stale": ORANGE, "not_a_database": RED, "missing": RED}
DECISIONS = {
    "accepted": GREEN, "duplicate": BLUE, "resolved": PURPLE, "cooldown": YELLOW, "disabled": ORANGE, "no_match": ORANGE,
    "rejected": RED,
}  # fmt: skip
CODES = {"2..": GREEN, "4..": ORANGE, "5..": RED}


def colour_overrides(words: Mapping[str, str]) -> Iterator[tuple[str, list[DynamicConfigValue]]]:
    """(pattern, how it looks) of each: shades of its colour, so that two series of one meaning can be told apart."""
    for word, colour in words.items():
        shades = {"mode": FieldColorModeId.SHADES, "fixedColor": colour}
        yield f"/(^|: ){word}$/", [DynamicConfigValue(id_val="color", value=shades)]
