"""Gathers the query planner's statistics of one table or of all, in short transactions beside the live application.

Runbook: docs/runbook.md#procedure-statistics. It adds nothing but sqlite_stat1 to the application's database.
"""

from difflib import get_close_matches

from actions.maintenance.analyze_tables import accepted_hold, analyze_all, ordinary_tables, require_statistics_allowed
from actions.model.context import ActionContext
from actions.model.errors import NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Plan
from actions.spec import ActionSpec
from actions.sqlite.naming import join_first
from collectors.access.connection import open_read_only

SPEC = ActionSpec(
    name="analyze",
    summary="Gather the query planner's statistics of all tables, in short write transactions while workers go on.",
    options={
        "table": ActionOption("text", "Only this table."),
        "stall": ActionOption(
            "seconds", "How long the write lock may be held at a time; limits.write_lock by default.", example="2s"
        ),
    },
)


def plan(context: ActionContext) -> Plan:
    """Select the tables. Raises Refused, NothingToDo."""
    with open_read_only(context.target.path) as connection:
        require_statistics_allowed(context, connection)
        tables = _select_tables(context, ordinary_tables(connection))
    return Plan(
        steps=(f"ANALYZE {join_first(tables)}",),
        figures={"tables": len(tables), "longest_hold_seconds": accepted_hold(context)},
        stall=accepted_hold(context),
    )


def run(context: ActionContext, plan: Plan) -> Done:  # noqa: ARG001 - the actions' signature
    """Analyze the tables. What does not fit into the allowed hold stays unchanged, and is in the result."""
    with open_read_only(context.target.path) as connection:
        tables = _select_tables(context, ordinary_tables(connection))
    return analyze_all(context, tables)


def _select_tables(context: ActionContext, tables: tuple[str, ...]) -> tuple[str, ...]:
    name = context.options.get("table")
    if name is None:
        if not tables:
            raise NothingToDo("the database has no tables", reason="no_tables", next_step="")
        return tables
    selected = [table for table in tables if table.lower() == str(name).lower()]
    if not selected:
        near = get_close_matches(str(name), tables, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise Refused(
            f"there is no table {name} in {context.target.path}",
            reason="no_such_table",
            next_step=f"{hint}its tables: {join_first(tables) or 'none'}",
        )
    return tuple(selected)
