"""Deletes the backups that no retention rule keeps. What stays and why is decided in actions/backups/retention.py.

Never the newest verified backup, never what is not verified, never another database's. When the source itself failed its
last check, nothing is deleted: the good backups may be all that is left.
"""

from collections.abc import Mapping
from pathlib import Path

from actions.backups.publish import remove_orphaned_partials, sync_directory
from actions.backups.retention import RetentionCandidate, RetentionDecision, decide_retention
from actions.model.context import ActionContext
from actions.model.errors import NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from collectors.backup_catalog.catalog import Backup, find_backups
from collectors.backup_catalog.manifest import MANIFEST_SUFFIX, ManifestError, belongs_to, manifest_path, read_manifest
from collectors.target import RetentionCounts, Target

SPEC = ActionSpec(
    name="prune",
    summary="Delete the backups that no retention rule keeps; never the newest verified one.",
    options={"keep_last": ActionOption("count", "Keep the newest N, instead of the configured rules.")},
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    command_group="backups",
)


def plan(work: ActionContext) -> Plan:
    """Decide, and show it. Raises Refused, NothingToDo."""
    if work.target.backup is None:
        raise Refused(
            "no backup directory is known",
            reason="no_directory",
            next_step="give --from DIR, or configure backup.directory",
        )
    if work.source_failure:
        raise Refused(
            f"the database failed its last check ({work.source_failure}), so no backup of it is deleted",
            reason="source_failed",
            next_step="see `queuekeeper history`; restore or repair it, take a verified backup, then prune",
        )
    found = {backup.path.name: backup for backup in find_backups(work.target)}
    decision = decide_retention(
        (_retention_candidate(work, backup) for backup in found.values()), _keep_rules(work), work.now()
    )
    gone = (*decision.dropped, *_orphaned_manifests(work.target))
    if not gone:
        raise NothingToDo(f"all {len(found)} backups are kept", reason="all_kept", next_step="")
    return Plan(
        steps=tuple(f"delete {name}" for name in gone),
        figures=_plan_figures(found, decision),
    )


def run(work: ActionContext, plan: Plan) -> Done:
    """Delete what was decided: the backup first, its manifest after, so that no manifest vouches for nothing for long."""
    place = work.target.backup
    assert place is not None  # noqa: S101 the plan refused otherwise
    folder = place.database_folder(work.target.name)
    remove_orphaned_partials(folder)
    freed = deleted = 0
    work.emit_phase("prune")
    for step in plan.steps:
        work.stop.raise_if_requested()
        path = folder / step.removeprefix("delete ")
        if path.name.endswith(MANIFEST_SUFFIX):
            path.unlink(missing_ok=True)
            continue
        freed += path.stat().st_size
        path.unlink()
        manifest_path(path).unlink(missing_ok=True)
        deleted += 1
    sync_directory(folder)
    kept = plan.figures["kept"]
    return Done(f"deleted {deleted} backups, kept {kept}", {"deleted": deleted, "kept": kept, "freed_bytes": freed})


def _orphaned_manifests(target: Target) -> list[str]:
    """Manifests of this database whose backup is gone: a prune was killed between the two."""
    if target.backup is None:
        return []
    found = sorted(target.backup.database_folder(target.name).glob(f"queue_backup_*{MANIFEST_SUFFIX}"))
    return [path.name for path in found if not _backup_exists(path) and _is_own_manifest(path, target)]


def _backup_exists(manifest: Path) -> bool:
    stem = manifest.name.removesuffix(MANIFEST_SUFFIX)
    return any(manifest.with_name(stem + ending).exists() for ending in (".db", ".db.zst"))


def _is_own_manifest(manifest: Path, target: Target) -> bool:
    try:
        return belongs_to(read_manifest(manifest), target)
    except (ManifestError, OSError):
        return False


def _keep_rules(work: ActionContext) -> RetentionCounts:
    last = work.options.get("keep_last")
    if last is not None:
        return RetentionCounts(last=int(last), hourly=0, daily=0, weekly=0, monthly=0)
    place = work.target.backup
    return place.keep if place is not None else RetentionCounts()


def _retention_candidate(work: ActionContext, backup: Backup) -> RetentionCandidate:
    manifest = backup.manifest
    if manifest is None:
        return RetentionCandidate(backup.path.name, backup.path.stat().st_mtime, backup.state, "manual", own=False)
    own = belongs_to(manifest, work.target)
    return RetentionCandidate(backup.path.name, manifest.snapshot_time, backup.state, manifest.kind, own)


def _plan_figures(found: Mapping[str, Backup], decision: RetentionDecision) -> Mapping[str, Figure]:
    freed = sum(found[name].size for name in decision.dropped)
    reasons = "; ".join(f"{name}: {', '.join(why)}" for name, why in list(decision.kept.items())[:20])
    return {"kept": len(decision.kept), "delete": len(decision.dropped), "freed_bytes": freed, "why_kept": reasons}
