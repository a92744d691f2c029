"""Checks that the database is whole: SQLite's own check, quick or full, and beside it what must hold in a queue's rows.

Runbook: docs/runbook.md#procedure-integrity-check. It changes nothing. A live file is read in parts that each keep their
budget; what is too large for that is checked on the newest verified backup. A failure is remembered until a whole full
check of the same target is good (actions/store/integrity.py).
"""

import time

from actions.backups.publish import make_scratch_folder
from actions.backups.queue_check import QueueCheckResult, check_queue_rows
from actions.backups.select import (
    is_as_written,
    load_backup,
    open_plain_backup,
    require_same_source,
    select_newest_verified,
    withdraw_verification,
)
from actions.backups.store import SelectedBackup
from actions.maintenance.integrity_check import (
    DAMAGE_ERRORS,
    CheckReport,
    check_copy,
    check_live,
    predicted_check_seconds,
)
from actions.model.context import ActionContext
from actions.model.errors import Failed, Refused, Unverified
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from actions.sqlite.connection import uses_rollback_journal
from actions.sqlite.disk_space import database_bytes
from actions.sqlite.naming import join_first
from collectors.access.connection import open_immutable, open_read_only
from collectors.access.timeouts import TimeLimitExceeded

SPEC = ActionSpec(
    name="integrity",
    summary="Check DB for damage; when it is too large to be read while workers go on, check its newest verified backup.",
    details="A failure is remembered until a --full check of the same target succeeds.",
    options={
        "full": ActionOption("flag", "Also compare every index with its table: about ten times the work."),
        "on_backup": ActionOption("flag", "Check the newest verified backup, even when the live file is small."),
        "longest_read": ActionOption(
            "seconds",
            "The longest that one read of the live file may last; limits.read_wal or read_rollback by default.",
            example="10s",
        ),
    },
    lane="long",
    backup_directory="optional",
    checks_own_space=True,
)

NO_QUEUE_PROBLEMS = QueueCheckResult((), (), "")


def plan(work: ActionContext) -> Plan:
    """Choose where to read. Raises Refused."""
    full = bool(work.options.get("full"))
    longest = _longest_read(work)
    size = database_bytes(work)
    seconds = predicted_check_seconds(size, full=full)
    backup = _backup_to_check(work, large=seconds > longest)
    figures: dict[str, Figure] = {
        "check": "full" if full else "quick",
        "target": "live" if backup is None else "backup",
        "bytes": size,
        "predicted_seconds": round(seconds, 3),
    }
    word = "integrity_check" if full else "quick_check"
    if backup is not None:
        return Plan(steps=(f"{word} of {backup.reference}",), figures={**figures, "path": backup.reference})
    return Plan(
        steps=(f"{word} of the live file, no read longer than {longest:g} s",),
        figures={**figures, "longest_read": longest},
        stall=min(seconds, longest) if uses_rollback_journal(work) else 0.0,
    )


def run(work: ActionContext, plan: Plan) -> Done:
    """Check. Raises Unverified with the first problems, Failed when something could not be checked."""
    full = plan.figures["check"] == "full"
    if plan.figures["target"] == "backup":
        chosen = load_backup(work, str(plan.figures["path"]))
        require_same_source(work, chosen)
        return _check_backup(work, chosen, full=full)
    started = time.monotonic()
    report, beside = _check_live_file(work, float(plan.figures["longest_read"] or 0.0), full=full)
    figures = _check_figures(report, beside, "live", full=full, seconds=time.monotonic() - started)
    if report.problems or beside.problems:
        raise _damage_error(f"{work.target.path} is damaged", report.problems + beside.problems, figures)
    if report.unchecked:
        raise Failed(
            f"not checked: {join_first(report.unchecked)}; in the rest nothing is wrong",
            reason="unchecked",
            next_step="take a backup and check that (--on-backup), or accept longer reads (--longest-read)",
            figures={name: value for name, value in figures.items() if name != "whole_file"},
        )
    return Done(_success_message(f"{plan.figures['check']} check of the live file", beside), figures)


def _longest_read(work: ActionContext) -> float:
    limits = work.target.limits
    return work.numeric_option("longest_read", limits.read_rollback if uses_rollback_journal(work) else limits.read_wal)


def _backup_to_check(work: ActionContext, *, large: bool) -> SelectedBackup | None:
    """The newest verified one, where it may be needed. Raises Refused when it is asked for and there is none."""
    wanted = bool(work.options.get("on_backup"))
    if not wanted and (work.target.backup is None or not large):
        return None
    found = select_newest_verified(work)
    if found is None and wanted:
        raise Refused(
            "there is no verified backup to check", reason="no_backup", next_step="take one: queuekeeper backup DB"
        )
    return found


def _check_live_file(work: ActionContext, longest: float, *, full: bool) -> tuple[CheckReport, QueueCheckResult]:
    """The parts one after another; the rows only where the pages are sound."""
    report = CheckReport()
    try:
        with open_read_only(work.target.path) as connection:
            for part in check_live(work, connection, longest, full=full):
                report = report.with_part(part)
                work.emit_progress("checked parts", report.parts, 0.0)
                work.stop.raise_if_requested()
            if report.problems:
                return report, NO_QUEUE_PROBLEMS
            return report, check_queue_rows(work, connection, longest, work.run_history.figure("last_numbers"))
    except DAMAGE_ERRORS as error:  # so damaged that not even its schema can be read
        return report if report.problems else CheckReport((str(error),)), NO_QUEUE_PROBLEMS
    except TimeLimitExceeded as error:
        return report.with_part(CheckReport(unchecked=(f"the rows ({error})",))), NO_QUEUE_PROBLEMS


def _check_backup(work: ActionContext, chosen: SelectedBackup, *, full: bool) -> Done:
    age = max(0.0, work.now() - chosen.manifest.snapshot_time)
    about = f"{chosen.name}, taken {age / 3600:.1f} hours ago,"
    started = time.monotonic()
    report, beside = _check_backup_copy(work, chosen, full=full)
    figures = _check_figures(report, beside, "backup", full=full, seconds=time.monotonic() - started)
    figures |= {"path": chosen.reference, "snapshot_age_seconds": round(age, 1)}
    if report.problems or beside.problems:
        withdraw_verification(chosen)
        raise _damage_error(f"{about} is damaged: {_damage_origin(chosen)}", report.problems + beside.problems, figures)
    return Done(_success_message(f"{figures['check']} check of {about}", beside), figures)


def _check_backup_copy(
    work: ActionContext, chosen: SelectedBackup, *, full: bool
) -> tuple[CheckReport, QueueCheckResult]:
    try:
        with (
            open_plain_backup(work, chosen, make_scratch_folder(work)) as plain,
            open_immutable(plain) as connection,
        ):
            report = check_copy(work, connection, full=full)
            return report, NO_QUEUE_PROBLEMS if report.problems else check_queue_rows(work, connection, None, None)
    except DAMAGE_ERRORS as error:
        return CheckReport((str(error),), whole=True), NO_QUEUE_PROBLEMS
    except Unverified as error:  # it cannot even be decompressed
        return CheckReport((str(error),), whole=True), NO_QUEUE_PROBLEMS


def _damage_origin(chosen: SelectedBackup) -> str:
    if is_as_written(chosen):
        return "it is what was written, so the database itself was damaged when it was copied"
    return "it is not what was written, so it was damaged where it lies"


def _check_figures(
    report: CheckReport, beside: QueueCheckResult, target: str, *, full: bool, seconds: float
) -> dict[str, Figure]:
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


def _damage_error(what: str, problems: tuple[str, ...], figures: dict[str, Figure]) -> Unverified:
    only_indexes = all("index" in problem for problem in problems)
    cure = (
        "only indexes are: have the application's owner run REINDEX, then check with --full"
        if only_indexes
        else "keep all backups; restore the newest good one: `queuekeeper backups verify`, `queuekeeper restore`"
    )
    return Unverified(f"{what}: {'; '.join(problems)}", reason="damaged", next_step=cure, figures=figures)


def _success_message(what: str, beside: QueueCheckResult) -> str:
    return f"{what}: ok" + "".join(f"; note: {note}" for note in beside.notes)
