"""The results of the integrity checks of each database. A failure stays until a whole full check of its target succeeds.

A quick check does not compare indexes with their tables, so its `ok` does not clear the failure of a full check.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import apsw

from actions.model.plan import Figure


@dataclass(frozen=True, slots=True)
class IntegrityResult:
    """One check. `check`: quick or full; `target`: live or backup; `whole`: of every page; `message` says what is wrong."""

    check: str
    target: str
    ok: bool
    whole: bool
    message: str = ""


def integrity_result_from(figures: Mapping[str, Figure], *, ok: bool, message: str) -> IntegrityResult:
    """The result that a run of the integrity action recorded in its figures."""
    return IntegrityResult(str(figures["check"]), str(figures["target"]), ok, bool(figures["whole_file"]), message)


def record_integrity_result(history: apsw.Connection, database: str, checked: IntegrityResult, now: float) -> None:
    """Record a completed check. Runs inside the caller's transaction."""
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
    """By database, check and target: whether all is well, and when that was last checked (seconds since the epoch)."""
    rows = history.execute("SELECT database, kind, target, ok, checked_at FROM integrity")
    return {(database, kind, target): (bool(ok), at) for database, kind, target, ok, at in rows}


def uncleared_failure(history: apsw.Connection, database: str) -> str:
    """The message of the newest failure that no full check has cleared yet; empty without one."""
    message = history.execute(
        "SELECT message FROM integrity WHERE database = ? AND NOT ok ORDER BY checked_at DESC LIMIT 1", (database,)
    ).get
    return "" if message is None else str(message)
