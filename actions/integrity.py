"""Checks that the database is whole: SQLite's own check, quick or full, and beside it what must hold in a queue's rows.

Runbook: docs/runbook.md#procedure-integrity-check. It changes nothing. A live file is read in parts that each keep their
budget; what is too large for that is checked on the newest verified backup. A failure is remembered until a whole full
check of the same target is good (actions/store/integrity.py).
"""

import time
from pathlib import Path

from actions.backups.compression import plain_file
from actions.backups.content_proof import sha256_of
from actions.backups.queue_check import Beside, look_beside
from actions.backups.scratch import scratch_folder
from actions.backups.select import Chosen, check_source, named, newest_verified, withdraw
from actions.maintenance.integrity_check import DAMAGE, Report, check_copy, check_live
from actions.model.context import Work
from actions.model.errors import Failed, Refused, Unverified
from actions.model.options import OptionKind
from actions.model.plan import Done, Figure, Plan
from actions.policy.check_duration import predicted_seconds
from actions.sqlite.disk_space import database_bytes
from actions.sqlite.journal import is_rollback
from actions.sqlite.naming import some_of
from collectors.access.connection import read_only, unchanging
from collectors.access.timeouts import TimeLimitExceeded

NAME = "integrity"
LONG = True
AUTOMATIC = True
MAY_BE_MISSING = False
WINDOWED = False
DESTRUCTIVE = False
OPTIONS = {
    "full": OptionKind("flag", "compare every index with its table too: about ten times the work"),
    "on_backup": OptionKind("flag", "check the newest verified backup, whatever the size of the live file"),
    "longest_read": OptionKind(
        "seconds",
        "how long one read of the live file may last, in seconds; by default limits.read_wal or read_rollback",
    ),
}

NOTHING = Beside((), (), "")


def plan(work: Work) -> Plan:
    """Choose where to read. Raises Refused."""
    full = bool(work.options.get("full"))
    longest = _longest_read(work)
    size = database_bytes(work)
    seconds = predicted_seconds(size, full=full)
    backup = _backup(work, large=seconds > longest)
    figures: dict[str, Figure] = {
        "check": "full" if full else "quick",
        "target": "live" if backup is None else "backup",
        "bytes": size,
        "predicted_seconds": round(seconds, 3),
    }
    word = "integrity_check" if full else "quick_check"
    if backup is not None:
        return Plan(steps=(f"{word} of {backup.path}",), figures={**figures, "path": str(backup.path)})
    return Plan(
        steps=(f"{word} of the live file, no read longer than {longest:g} s",),
        figures={**figures, "longest_read": longest},
        stall=min(seconds, longest) if is_rollback(work) else 0.0,
    )


def run(work: Work, plan: Plan) -> Done:
    """Check. Raises Unverified with the first problems, Failed when something could not be checked."""
    full = plan.figures["check"] == "full"
    if plan.figures["target"] == "backup":
        chosen = named(Path(str(plan.figures["path"])))
        check_source(work, chosen)
        return _of_backup(work, chosen, full=full)
    started = time.monotonic()
    report, beside = _live(work, float(plan.figures["longest_read"] or 0.0), full=full)
    figures = _figures(report, beside, "live", full=full, seconds=time.monotonic() - started)
    if report.problems or beside.problems:
        raise _damaged(f"{work.target.path} is damaged", report.problems + beside.problems, figures)
    if report.unchecked:
        raise Failed(
            f"not checked: {some_of(report.unchecked)}; in the rest nothing is wrong",
            reason="unchecked",
            next_step="take a backup and check that (--on-backup), or accept longer reads (--longest-read)",
            figures={name: value for name, value in figures.items() if name != "whole_file"},
        )
    return Done(_all_is_well(f"{plan.figures['check']} check of the live file", beside), figures)


def _longest_read(work: Work) -> float:
    limits = work.target.limits
    return work.number("longest_read", limits.read_rollback if is_rollback(work) else limits.read_wal)


def _backup(work: Work, *, large: bool) -> Chosen | None:
    """The newest verified one, where it may be needed. Raises Refused when it is asked for and there is none."""
    wanted = bool(work.options.get("on_backup"))
    if not wanted and (work.target.backup is None or not large):
        return None
    found = newest_verified(work)
    if found is None and wanted:
        raise Refused(
            "there is no verified backup to check", reason="no_backup", next_step="take one: queuekeeper backup DB"
        )
    return found


def _live(work: Work, longest: float, *, full: bool) -> tuple[Report, Beside]:
    """The parts one after another; the rows only where the pages are sound."""
    report = Report()
    try:
        with read_only(work.target.path) as connection:
            for part in check_live(work, connection, longest, full=full):
                report = report.plus(part)
                work.progress("checked parts", report.parts, 0.0)
                work.stop.check()
            if report.problems:
                return report, NOTHING
            return report, look_beside(work, connection, longest, work.memory.figure("last_numbers"))
    except DAMAGE as error:  # so damaged that not even its schema can be read
        return report if report.problems else Report((str(error),)), NOTHING
    except TimeLimitExceeded as error:
        return report.plus(Report(unchecked=(f"the rows ({error})",))), NOTHING


def _of_backup(work: Work, chosen: Chosen, *, full: bool) -> Done:
    age = max(0.0, work.now() - chosen.manifest.snapshot_time)
    about = f"{chosen.path.name}, taken {age / 3600:.1f} hours ago,"
    started = time.monotonic()
    report, beside = _copy(work, chosen, full=full)
    figures = _figures(report, beside, "backup", full=full, seconds=time.monotonic() - started)
    figures |= {"path": str(chosen.path), "snapshot_age_seconds": round(age, 1)}
    if report.problems or beside.problems:
        withdraw(chosen)
        raise _damaged(f"{about} is damaged: {_whose_fault(chosen)}", report.problems + beside.problems, figures)
    return Done(_all_is_well(f"{figures['check']} check of {about}", beside), figures)


def _copy(work: Work, chosen: Chosen, *, full: bool) -> tuple[Report, Beside]:
    try:
        with (
            plain_file(work, chosen.path, chosen.plain_bytes, scratch_folder(work)) as plain,
            unchanging(plain) as connection,
        ):
            report = check_copy(work, connection, full=full)
            return report, NOTHING if report.problems else look_beside(work, connection, None, None)
    except DAMAGE as error:
        return Report((str(error),), whole=True), NOTHING
    except Unverified as error:  # it cannot even be decompressed
        return Report((str(error),), whole=True), NOTHING


def _whose_fault(chosen: Chosen) -> str:
    if sha256_of(chosen.path) == chosen.manifest.sha256:
        return "it is what was written, so the database itself was damaged when it was copied"
    return "it is not what was written, so it was damaged where it lies"


def _figures(report: Report, beside: Beside, target: str, *, full: bool, seconds: float) -> dict[str, Figure]:
    problems = report.problems + beside.problems
    figures: dict[str, Figure] = {
        "check": "full" if full else "quick",
        "target": target,
        "whole_file": report.whole,
        "problems": "; ".join(problems),
        "notes": "; ".join(beside.notes),
        "parts": report.parts,
        "longest_read_seconds": round(report.longest, 4),
        "seconds": round(seconds, 4),
    }
    return {**figures, "last_numbers": beside.numbers} if target == "live" and beside.numbers else figures


def _damaged(what: str, problems: tuple[str, ...], figures: dict[str, Figure]) -> Unverified:
    only_indexes = all("index" in problem for problem in problems)
    cure = (
        "only indexes are: have the application's owner run REINDEX, then check with --full"
        if only_indexes
        else "keep all backups; restore the newest good one: `queuekeeper backups verify`, `queuekeeper restore`"
    )
    return Unverified(f"{what}: {'; '.join(problems)}", reason="damaged", next_step=cure, figures=figures)


def _all_is_well(what: str, beside: Beside) -> str:
    return f"{what}: ok" + "".join(f"; note: {note}" for note in beside.notes)
