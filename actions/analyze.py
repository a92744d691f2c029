"""Gathers the query planner's statistics of one table or of all, in short turns beside the live application.

Runbook: docs/runbook.md#procedure-statistics. The only thing that it adds to the application's database is sqlite_stat1.
"""

from collections.abc import Mapping
from difflib import get_close_matches

from actions.maintenance.analyze_tables import ordinary_tables, require_welcome
from actions.maintenance.gathering import accepted_hold, gather_all
from actions.model.context import Work
from actions.model.errors import NothingToDo, Refused
from actions.model.options import OptionKind
from actions.model.plan import Done, Plan
from actions.sqlite.naming import some_of
from collectors.access.connection import read_only

NAME = "analyze"
LONG = False
AUTOMATIC = True
MAY_BE_MISSING = False
WINDOWED = False
DESTRUCTIVE = False
OPTIONS: Mapping[str, OptionKind] = {
    "table": OptionKind("text", "only this table"),
    "stall": OptionKind(
        "seconds", "how long the write lock may be held at a time, in seconds; by default limits.write_lock"
    ),
}


def plan(work: Work) -> Plan:
    """Which tables. Raises Refused, NothingToDo."""
    with read_only(work.target.path) as connection:
        require_welcome(work, connection)
        tables = _chosen(work, ordinary_tables(connection))
    return Plan(
        steps=(f"ANALYZE {some_of(tables)}",),
        figures={"tables": len(tables), "longest_hold_seconds": accepted_hold(work)},
        stall=accepted_hold(work),
    )


def run(work: Work, plan: Plan) -> Done:  # noqa: ARG001 - the actions' signature
    """Gather. What does not fit into the hold that is allowed is left as it was, and told."""
    with read_only(work.target.path) as connection:
        tables = _chosen(work, ordinary_tables(connection))
    return gather_all(work, tables)


def _chosen(work: Work, tables: tuple[str, ...]) -> tuple[str, ...]:
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
            next_step=f"{hint}its tables: {some_of(tables) or 'none'}",
        )
    return tuple(found)
