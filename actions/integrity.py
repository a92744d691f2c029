"""Checks the integrity of the database: SQLite's own check, quick or full, and a check of the queue's rows.

Runbook: docs/runbook.md#procedure-integrity-check. It changes nothing. A live file is read in parts that each keep the
read budget; a file that is too large for that is checked on the newest verified backup. A failure is remembered until a
full check of the whole same target succeeds (actions/store/integrity.py).
"""

import time

from actions.backups.check_messages import cure_of
from actions.backups.proof_record import record_damage
from actions.backups.publish import make_scratch_folder
from actions.backups.queue_check import QueueCheckResult, check_queue_rows
from actions.backups.select import (
    is_as_written,
    load_backup,
    open_plain_backup,
    require_same_source,
    select_newest_verified,
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
from collectors.access.at_rest import open_live_or_at_rest
from collectors.access.connection import open_immutable
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
    writes_pages=False,
    heeds_content_loss="never",
)

NO_QUEUE_NOTES = QueueCheckResult((), "")


def plan(context: ActionContext) -> Plan:
    """Choose the live file or a backup. Raises Refused."""
    full = bool(context.options.get("full"))
    longest = _longest_read(context)
    size = database_bytes(context)
    seconds = predicted_check_seconds(size, full=full)
    backup = _backup_to_check(context, large=seconds > longest)
    figures: dict[str, Figure] = {
        "check": "full" if full else "quick",
        "target": "live" if backup is None else "backup",
        "bytes": size,
        "predicted_seconds": round(seconds, 3),
    }
    pragma = "integrity_check" if full else "quick_check"
    if backup is not None:
        return Plan(steps=(f"{pragma} of {backup.reference}",), figures={**figures, "path": backup.reference})
    return Plan(
        steps=(f"{pragma} of the live file, no read longer than {longest:g} s",),
        figures={**figures, "longest_read": longest},
        stall=min(seconds, longest) if uses_rollback_journal(context) else 0.0,
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Run the check. Raises Unverified with the first problems, Failed when a part could not be checked."""
    full = plan.figures["check"] == "full"
    if plan.figures["target"] == "backup":
        backup = load_backup(context, str(plan.figures["path"]))
        require_same_source(context, backup)
        return _check_backup(context, backup, full=full)
    started = time.monotonic()
    report, queue_check = _check_live_file(context, float(plan.figures["longest_read"] or 0.0), full=full)
    figures = _check_figures(report, queue_check, "live", full=full, seconds=time.monotonic() - started)
    if report.problems:
        raise _damage_error(str(context.target.path), report, figures)
    if report.unchecked:
        raise Failed(
            f"not checked: {join_first(report.unchecked)}; no problem in the rest",
            reason="unchecked",
            next_step="take a backup and check that (--on-backup), or accept longer reads (--longest-read)",
            figures={name: value for name, value in figures.items() if name != "whole_file"},
        )
    return Done(_success_message(f"{plan.figures['check']} check of the live file", report, queue_check), figures)


def _longest_read(context: ActionContext) -> float:
    limits = context.target.limits
    return context.numeric_option(
        "longest_read", limits.read_rollback if uses_rollback_journal(context) else limits.read_wal
    )


def _backup_to_check(context: ActionContext, *, large: bool) -> SelectedBackup | None:
    """The newest verified backup, if one is to be checked. Raises Refused when it is requested and there is none."""
    is_requested = bool(context.options.get("on_backup"))
    if not is_requested and (context.target.backup is None or not large):
        return None
    backup = select_newest_verified(context)
    if backup is None and is_requested:
        raise Refused(
            "there is no verified backup to check", reason="no_backup", next_step="take one: queuekeeper backup DB"
        )
    return backup


def _check_live_file(context: ActionContext, longest: float, *, full: bool) -> tuple[CheckReport, QueueCheckResult]:
    """Check the live file part by part, then the queue's rows if the pages have no problem."""
    report = CheckReport()
    try:
        with open_live_or_at_rest(context.target, context.raw) as connection:
            for part in check_live(context, connection, longest, full=full):
                report = report.with_part(part)
                context.emit_progress("checked parts", report.parts, 0.0)
                context.stop.raise_if_requested()
            if report.problems:
                return report, NO_QUEUE_NOTES
            return report, check_queue_rows(context, connection, longest, context.run_history.figure("last_numbers"))
    except DAMAGE_ERRORS as error:  # the damage is in the schema itself
        return report if report.problems else CheckReport((str(error),), kinds=frozenset({"pages"})), NO_QUEUE_NOTES
    except TimeLimitExceeded as error:
        return report.with_part(CheckReport(unchecked=(f"the rows ({error})",))), NO_QUEUE_NOTES


def _check_backup(context: ActionContext, backup: SelectedBackup, *, full: bool) -> Done:
    age = backup.age_at(context.now())
    taken = "whose time is in the future" if age is None else f"taken {age / 3600:.1f} hours ago"
    about = f"{backup.name}, {taken},"
    started = time.monotonic()
    report, queue_check = _check_backup_copy(context, backup, full=full)
    figures = _check_figures(report, queue_check, "backup", full=full, seconds=time.monotonic() - started)
    figures |= {"path": backup.reference, "snapshot_age_seconds": None if age is None else round(age, 1)}
    if report.problems:
        if not report.only_breaks_rules:
            record_damage(context, backup, report.problems[0])
        raise _damage_error(f"{about} ({_damage_origin(backup)})", report, figures)
    return Done(_success_message(f"{figures['check']} check of {about}", report, queue_check), figures)


def _check_backup_copy(
    context: ActionContext, backup: SelectedBackup, *, full: bool
) -> tuple[CheckReport, QueueCheckResult]:
    try:
        with (
            open_plain_backup(context, backup, make_scratch_folder(context)) as plain,
            open_immutable(plain) as connection,
        ):
            report = check_copy(context, connection, plain, full=full)
            return report, NO_QUEUE_NOTES if report.problems else check_queue_rows(context, connection, None, None)
    except DAMAGE_ERRORS as error:
        return CheckReport((str(error),), whole=True, kinds=frozenset({"pages"})), NO_QUEUE_NOTES
    except Unverified as error:  # it cannot be decompressed
        return CheckReport((str(error),), whole=True, kinds=frozenset({"pages"})), NO_QUEUE_NOTES


def _damage_origin(backup: SelectedBackup) -> str:
    if is_as_written(backup):
        return "it is as it was written, so the database itself was damaged when it was copied"
    return "it is not as it was written, so it was damaged in the backup store"


def _check_figures(
    report: CheckReport, queue_check: QueueCheckResult, target: str, *, full: bool, seconds: float
) -> dict[str, Figure]:
    figures: dict[str, Figure] = {
        "check": "full" if full else "quick",
        "target": target,
        "whole_file": report.whole,
        "problems": "; ".join(report.problems),
        "unchecked": "; ".join(report.foreign),
        "notes": "; ".join(queue_check.notes),
        "parts": report.parts,
        "longest_read_seconds": round(report.longest, 4),
        "seconds": round(seconds, 4),
    }
    return {**figures, "last_numbers": queue_check.numbers} if target == "live" and queue_check.numbers else figures


def _damage_error(subject: str, report: CheckReport, figures: dict[str, Figure]) -> Unverified:
    problems = "; ".join(report.problems)
    if report.only_breaks_rules:
        message, reason = f"{subject}: rows break a rule that the schema declares: {problems}", "rows"
    else:
        message, reason = f"{subject} is damaged: {problems}", "damaged"
    return Unverified(message, reason=reason, next_step=cure_of(report.kinds), figures=figures)


def _success_message(subject: str, report: CheckReport, queue_check: QueueCheckResult) -> str:
    foreign = f"; only the application can check: {join_first(report.foreign)}" if report.foreign else ""
    return f"{subject}: ok{foreign}" + "".join(f"; note: {note}" for note in queue_check.notes)
