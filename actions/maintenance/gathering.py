"""All the statistics of one run, and what is told of them: for analyze and optimize."""

from dataclasses import dataclass, field, replace

from actions.maintenance.analyze_tables import LOCK_WAIT, AnalyzedTable, analyze_each_table
from actions.model.context import ActionContext
from actions.model.errors import ActionError, Failed
from actions.model.plan import Done, Figure
from actions.sqlite.connection import open_writable, relax_commit_syncs
from actions.sqlite.naming import join_first


@dataclass(frozen=True, slots=True)
class AnalyzeProgress:
    """What was done until now: tables, what was left out of them, the longest hold of the write lock in seconds."""

    done: int = 0
    left_out: tuple[str, ...] = ()
    longest_hold: float = 0.0
    whole: tuple[str, ...] = field(default=())

    def with_table(self, table: AnalyzedTable) -> "AnalyzeProgress":
        """And one more table."""
        return replace(
            self,
            done=self.done + 1,
            left_out=(*self.left_out, *table.left_out),
            longest_hold=max(self.longest_hold, table.longest_hold),
            whole=self.whole if table.left_out else (*self.whole, table.table),
        )


def accepted_hold(work: ActionContext) -> float:
    """How long the write lock may be held at a time, in seconds."""
    return max(work.target.limits.write_lock, work.numeric_option("stall", 0.0))


def analyze_all(work: ActionContext, tables: tuple[str, ...]) -> Done:
    """Gather the statistics of these tables. Raises ActionError, apsw.Error."""
    told = AnalyzeProgress()
    try:
        with open_writable(work.target.path, LOCK_WAIT) as connection:
            relax_commit_syncs(connection)
            for table in analyze_each_table(work, connection, tables, accepted_hold(work)):
                told = told.with_table(table)
                work.emit_progress("analyzed tables", told.done, len(tables))
    except ActionError as error:
        error.figures = _analyze_figures(told)
        raise
    return _analyze_result(work, told)


def _analyze_result(work: ActionContext, told: AnalyzeProgress) -> Done:
    message = f"analyzed {len(told.whole)} of {told.done} tables"
    if not told.left_out:
        return Done(message, _analyze_figures(told))
    message += f"; left as they were: {join_first(told.left_out)}"
    more = f"to hold the write lock longer than {accepted_hold(work):g} s, say --stall 2s"
    if not told.whole:
        raise Failed(message, reason="left_out", next_step=more, figures=_analyze_figures(told))
    return Done(f"{message} ({more})", _analyze_figures(told))


def _analyze_figures(told: AnalyzeProgress) -> dict[str, Figure]:
    return {
        "analyzed": len(told.whole),
        "left_out": ", ".join(told.left_out),
        "longest_hold_seconds": round(told.longest_hold, 4),
    }
