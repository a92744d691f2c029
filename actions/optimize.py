"""Gathers statistics only of the tables that SQLite itself says need it: PRAGMA optimize, in short turns.

Runbook: docs/runbook.md#procedure-statistics. https://sqlite.org/pragma.html#pragma_optimize
"""

import apsw

from actions.maintenance.analyze_tables import (
    LOCK_WAIT,
    accepted_hold,
    analyze_all,
    ordinary_tables,
    require_statistics_allowed,
)
from actions.model.context import ActionContext, describe_lock_holder
from actions.model.errors import Locked, NothingToDo
from actions.model.options import ActionOption
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec
from actions.sqlite.connection import open_writable
from actions.sqlite.naming import join_first
from collectors.queue_profiles.quoting import quote_identifier

SPEC = ActionSpec(
    name="optimize",
    summary="Gather statistics only of the tables that SQLite itself says need it (PRAGMA optimize).",
    options={
        "stall": ActionOption(
            "seconds", "How long the write lock may be held at a time; limits.write_lock by default.", example="2s"
        ),
    },
)

# All tables, not only those that this connection has queried (0x10000), analyzed where useful (0x02), only said (0x01).
WOULD_DO = 0x10003


def plan(work: ActionContext) -> Plan:
    """Which tables need it. Raises NothingToDo, Refused, Locked."""
    with open_writable(work.target.path, LOCK_WAIT) as connection:
        require_statistics_allowed(work, connection)
        tables = _tables_to_analyze(work, connection)
    if not tables:
        raise NothingToDo("SQLite finds no table whose statistics need it", reason="up_to_date", next_step="")
    return Plan(
        steps=(f"ANALYZE {join_first(tables)}",),
        figures={"tables": len(tables), "longest_hold_seconds": accepted_hold(work)},
        stall=accepted_hold(work),
    )


def run(work: ActionContext, plan: Plan) -> Done:  # noqa: ARG001 - the actions' signature
    """Gather. What does not fit into the hold that is allowed is left as it was, and told."""
    with open_writable(work.target.path, LOCK_WAIT) as connection:
        tables = _tables_to_analyze(work, connection)
    return analyze_all(work, tables)


def _tables_to_analyze(work: ActionContext, connection: apsw.Connection) -> tuple[str, ...]:
    """What SQLite would analyze. It takes the write lock for a moment to find out, and changes nothing."""
    try:
        said = {str(statement) for (statement,) in connection.execute(f"PRAGMA optimize({WOULD_DO})")}
    except apsw.BusyError:
        raise Locked(
            f"the write lock did not come free within {LOCK_WAIT:g} s: {describe_lock_holder(work)}",
            reason="write_lock",
            next_step="`queuekeeper readers` shows who holds it; run it again later",
        ) from None
    return tuple(name for name in ordinary_tables(connection) if f'ANALYZE "main".{quote_identifier(name)}' in said)
