"""All the statistics of one run, and what is told of them: for analyze and optimize."""

from dataclasses import dataclass, field, replace

from actions.maintenance.analyze_tables import LOCK_WAIT, Gathered, gather
from actions.model.context import Work
from actions.model.errors import ActionError, Failed
from actions.model.plan import Done, Figure
from actions.sqlite.connection import without_syncs, writable
from actions.sqlite.naming import some_of


@dataclass(frozen=True, slots=True)
class Told:
    """What was done until now: tables, what was left out of them, the longest hold of the write lock in seconds."""

    done: int = 0
    left_out: tuple[str, ...] = ()
    longest_hold: float = 0.0
    whole: tuple[str, ...] = field(default=())

    def plus(self, table: Gathered) -> "Told":
        """And one more table."""
        return replace(
            self,
            done=self.done + 1,
            left_out=(*self.left_out, *table.left_out),
            longest_hold=max(self.longest_hold, table.longest_hold),
            whole=self.whole if table.left_out else (*self.whole, table.table),
        )


def accepted_hold(work: Work) -> float:
    """How long the write lock may be held at a time, in seconds."""
    return max(work.target.limits.write_lock, work.number("stall", 0.0))


def gather_all(work: Work, tables: tuple[str, ...]) -> Done:
    """Gather the statistics of these tables. Raises ActionError, apsw.Error."""
    told = Told()
    try:
        with writable(work.target.path, LOCK_WAIT) as connection:
            without_syncs(connection)
            for table in gather(work, connection, tables, accepted_hold(work)):
                told = told.plus(table)
                work.progress("analyzed tables", told.done, len(tables))
    except ActionError as error:
        error.figures = _figures(told)
        raise
    return _ended(work, told)


def _ended(work: Work, told: Told) -> Done:
    message = f"analyzed {len(told.whole)} of {told.done} tables"
    if not told.left_out:
        return Done(message, _figures(told))
    message += f"; left as they were: {some_of(told.left_out)}"
    more = f"to hold the write lock longer than {accepted_hold(work):g} s, say --stall 2s"
    if not told.whole:
        raise Failed(message, reason="left_out", next_step=more, figures=_figures(told))
    return Done(f"{message} ({more})", _figures(told))


def _figures(told: Told) -> dict[str, Figure]:
    return {
        "analyzed": len(told.whole),
        "left_out": ", ".join(told.left_out),
        "longest_hold_seconds": round(told.longest_hold, 4),
    }
