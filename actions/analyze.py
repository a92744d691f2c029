"""Gathers the query planner's statistics of one table or of all, in short turns beside the live application.

Runbook: docs/runbook.md#procedure-statistics. The only thing that it adds to the application's database is sqlite_stat1.
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


def plan(work: ActionContext) -> Plan:
    """Which tables. Raises Refused, NothingToDo."""
    with open_read_only(work.target.path) as connection:
        require_statistics_allowed(work, connection)
        tables = _select_tables(work, ordinary_tables(connection))
    return Plan(
        steps=(f"ANALYZE {join_first(tables)}",),
        figures={"tables": len(tables), "longest_hold_seconds": accepted_hold(work)},
        stall=accepted_hold(work),
    )


def run(work: ActionContext, plan: Plan) -> Done:  # noqa: ARG001 - the actions' signature
    """Gather. What does not fit into the hold that is allowed is left as it was, and told."""
    with open_read_only(work.target.path) as connection:
        tables = _select_tables(work, ordinary_tables(connection))
    return analyze_all(work, tables)


def _select_tables(work: ActionContext, tables: tuple[str, ...]) -> tuple[str, ...]:
    wanted = work.options.get("table")
    if wanted is None:
        if not tables:
            raise NothingToDo("the database has no tables", reason="no_tables", next_step="")
        return tables
    found = [name for name in tables if name.lower() == str(wanted).lower()]
    if not found:
        near = get_close_matches(str(wanted), tables, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise Refused(
            f"there is no table {wanted} in {work.target.path}",
            reason="no_such_table",
            next_step=f"{hint}its tables: {join_first(tables) or 'none'}",
        )
    return tuple(found)
