"""Gathers statistics only of the tables that SQLite itself says need it: PRAGMA optimize, in short turns.

Runbook: docs/runbook.md#procedure-statistics. https://sqlite.org/pragma.html#pragma_optimize
"""

from collections.abc import Mapping

import apsw

from actions.backups.content_proof import quoted
from actions.maintenance.analyze_tables import LOCK_WAIT, ordinary_tables, require_welcome
from actions.maintenance.gathering import accepted_hold, gather_all
from actions.model.context import Work
from actions.model.errors import Locked, NothingToDo
from actions.model.lock_holders import in_the_way
from actions.model.options import OptionKind
from actions.model.plan import Done, Plan
from actions.sqlite.connection import writable
from actions.sqlite.naming import some_of

NAME = "optimize"
LONG = False
AUTOMATIC = True
MAY_BE_MISSING = False
WINDOWED = False
DESTRUCTIVE = False
OPTIONS: Mapping[str, OptionKind] = {
    "stall": OptionKind(
        "seconds", "how long the write lock may be held at a time, in seconds; by default limits.write_lock"
    ),
}

# All tables, not only those that this connection has queried (0x10000), analyzed where useful (0x02), only said (0x01).
WOULD_DO = 0x10003


def plan(work: Work) -> Plan:
    """Which tables need it. Raises NothingToDo, Refused, Locked."""
    with writable(work.target.path, LOCK_WAIT) as connection:
        require_welcome(work, connection)
        tables = _due(work, connection)
    if not tables:
        raise NothingToDo("SQLite finds no table whose statistics need it", reason="up_to_date", next_step="")
    return Plan(
        steps=(f"ANALYZE {some_of(tables)}",),
        figures={"tables": len(tables), "longest_hold_seconds": accepted_hold(work)},
        stall=accepted_hold(work),
    )


def run(work: Work, plan: Plan) -> Done:  # noqa: ARG001 - the actions' signature
    """Gather. What does not fit into the hold that is allowed is left as it was, and told."""
    with writable(work.target.path, LOCK_WAIT) as connection:
        tables = _due(work, connection)
    return gather_all(work, tables)


def _due(work: Work, connection: apsw.Connection) -> tuple[str, ...]:
    """What SQLite would analyze. It takes the write lock for a moment to find out, and changes nothing."""
    try:
        said = {str(statement) for (statement,) in connection.execute(f"PRAGMA optimize({WOULD_DO})")}
    except apsw.BusyError:
        raise Locked(
            f"the write lock did not come free within {LOCK_WAIT:g} s: {in_the_way(work)}",
            reason="write_lock",
            next_step="`queuekeeper readers` shows who holds it; run it again later",
        ) from None
    return tuple(name for name in ordinary_tables(connection) if f'ANALYZE "main".{quoted(name)}' in said)
