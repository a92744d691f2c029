"""What the integrity checks of each database said. A failure stays until a whole full check of the same target is good.

A quick check does not compare indexes with their tables, so its `ok` says nothing about what a full check found.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import apsw

from actions.model.plan import Figure


@dataclass(frozen=True, slots=True)
class IntegrityResult:
    """`check`: quick or full; `target`: live or backup; `whole`: nothing was left out; `message` says what is wrong."""

    check: str
    target: str
    ok: bool
    whole: bool
    message: str = ""


def integrity_result_from(figures: Mapping[str, Figure], *, ok: bool, message: str) -> IntegrityResult:
    """What a run of the integrity action tells in its figures."""
    return IntegrityResult(str(figures["check"]), str(figures["target"]), ok, bool(figures["whole_file"]), message)


def record_integrity_result(history: apsw.Connection, database: str, checked: IntegrityResult, now: float) -> None:
    """Remember a check that came to its end. Inside the caller's transaction."""
    if checked.ok and checked.whole and checked.check == "full":
        history.execute(
            "UPDATE integrity SET ok = 1, message = '' WHERE database = ? AND target = ?", (database, checked.target)
        )
    history.execute(
        "INSERT INTO integrity VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET checked_at = excluded.checked_at,"
        " ok = min(ok, excluded.ok), message = iif(excluded.ok, message, excluded.message)",
        (database, checked.check, checked.target, checked.ok, "" if checked.ok else checked.message, now),
    )


def integrity_verdicts(history: apsw.Connection) -> dict[tuple[str, str, str], tuple[bool, float]]:
    """By database, check and target: whether all is well, and when it was last looked (seconds since the epoch)."""
    rows = history.execute("SELECT database, kind, target, ok, checked_at FROM integrity")
    return {(database, kind, target): (bool(ok), at) for database, kind, target, ok, at in rows}


def uncleared_failure(history: apsw.Connection, database: str) -> str:
    """What the newest failure says that no full check has cleared yet; empty when there is none."""
    found = history.execute(
        "SELECT message FROM integrity WHERE database = ? AND NOT ok ORDER BY checked_at DESC LIMIT 1", (database,)
    ).get
    return "" if found is None else str(found)
