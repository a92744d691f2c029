"""The chain of history in words and as JSON fields: its verification, and who paused and resumed."""

from collections.abc import Iterator

from actions.store.chain import PAUSED, ChainEntry
from actions.store.chain_check import ChainFault, ChainReport
from exporter.text.units import format_time

# How many faults are printed one by one; the JSON has all.
MAX_PRINTED_FAULTS = 20


def report_lines(report: ChainReport, database_runs: int | None = None) -> Iterator[str]:
    """What a verification saw: one line when all is well, else the faults first, runs by their numbers.

    `database_runs`: how many of the runs are of the database that was asked for.
    """
    for fault in report.faults[:MAX_PRINTED_FAULTS]:
        yield _fault_line(fault)
    if len(report.faults) > MAX_PRINTED_FAULTS:
        yield f"and {len(report.faults) - MAX_PRINTED_FAULTS} more faults; --json has all of them"
    head = f"head {report.head} (entry {report.last_entry})" if report.head else "no head: the history is empty"
    if report.faults:
        cure = "the history is not as queuekeeper wrote it; find out who can write the state directory"
        yield f"{report.runs} runs, not as recorded: {len(report.faults)}; {head}; next: {cure}"
        return
    own = "" if database_runs is None else f" ({database_runs} of this database)"
    yield f"{report.runs} runs verified{own}, {head}{_sealed_words(report)}"


def report_fields(report: ChainReport) -> dict[str, object]:
    """The fields of `history --verify --json`; times in seconds since the epoch."""
    faults = [{"kind": f.kind, "run": f.run_id, "time": f.at, "message": f.message} for f in report.faults]
    return {
        "verified": not report.faults,
        "runs": report.runs,
        "entries": report.entries,
        "head": report.head,
        "head_entry": report.last_entry,
        "unchained_runs": report.sealed,
        "chained_since": report.sealed_at,
        "faults": faults,
    }


def pause_line(entry: ChainEntry) -> str:
    """A pause or its end in one line: when, by whom, why."""
    at = "at an unknown time" if entry.at is None else format_time(entry.at)
    what = "actions were paused" if entry.event == PAUSED else "actions were resumed"
    who = " ".join(entry.who.split())
    by = f" by {who}" if who and who not in entry.detail else ""
    detail = " ".join(entry.detail.split())
    return f"{at} {what}{by}" + (f" ({detail})" if detail else "")


def pause_fields(entry: ChainEntry) -> dict[str, object]:
    """The fields of a pause or its end in `history --pauses --json` and the HTTP API."""
    return {"time": entry.at, "event": entry.event, "requested_by": entry.who, "detail": entry.detail}


def _fault_line(fault: ChainFault) -> str:
    return fault.message + ("" if fault.at is None else f" (recorded {format_time(fault.at)})")


def _sealed_words(report: ChainReport) -> str:
    if not report.sealed or report.sealed_at is None:
        return ""
    return (
        f"; {report.sealed} of them unchained until {format_time(report.sealed_at)}: an earlier version recorded them, "
        "a change before that is not seen"
    )
