"""Gathers statistics of the tables for which PRAGMA optimize recommends it, in short transactions.

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

# All tables, not only those that this connection has queried (0x10000), analyzed where useful (0x02), listed only (0x01).
LIST_ONLY = 0x10003


def plan(context: ActionContext) -> Plan:
    """Find the tables that need statistics. Raises NothingToDo, Refused, Locked."""
    with open_writable(context.target.path, LOCK_WAIT) as connection:
        require_statistics_allowed(context, connection)
        tables = _tables_to_analyze(context, connection)
    if not tables:
        raise NothingToDo("SQLite finds no table whose statistics need it", reason="up_to_date", next_step="")
    return Plan(
        steps=(f"ANALYZE {join_first(tables)}",),
        figures={"tables": len(tables), "longest_hold_seconds": accepted_hold(context)},
        stall=accepted_hold(context),
    )


def run(context: ActionContext, plan: Plan) -> Done:  # noqa: ARG001 - the actions' signature
    """Analyze the tables. What does not fit into the allowed hold stays unchanged, and is in the result."""
    with open_writable(context.target.path, LOCK_WAIT) as connection:
        tables = _tables_to_analyze(context, connection)
    return analyze_all(context, tables)


def _tables_to_analyze(context: ActionContext, connection: apsw.Connection) -> tuple[str, ...]:
    """The tables that SQLite would analyze. It holds the write lock for a moment to find out, and changes nothing."""
    try:
        statements = {str(statement) for (statement,) in connection.execute(f"PRAGMA optimize({LIST_ONLY})")}
    except apsw.BusyError:
        raise Locked(
            f"the write lock did not come free within {LOCK_WAIT:g} s: {describe_lock_holder(context)}",
            reason="write_lock",
            next_step="`queuekeeper readers` shows who holds it; run it again later",
        ) from None
    return tuple(
        name for name in ordinary_tables(connection) if f'ANALYZE "main".{quote_identifier(name)}' in statements
    )
