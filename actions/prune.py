"""Deletes the backups that no retention rule keeps. actions/backups/retention.py decides which are kept and why.

Never the newest verified backup, never what is not verified, never another database's. When the source itself failed its
last check, nothing is deleted: the good backups may be all that remains.
"""

from collections.abc import Mapping
from pathlib import Path

from actions.backups.retention import RetentionCandidate, RetentionDecision, decide_retention
from actions.backups.store import open_store
from actions.model.context import ActionContext
from actions.model.errors import NothingToDo, Refused
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.manifest import belongs_to
from collectors.backup_catalog.names import is_manifest_name
from collectors.backup_catalog.partial_names import PARTIAL, describe_leftovers, find_leftovers, leftovers_cure
from collectors.target import RetentionCounts

SPEC = ActionSpec(
    name="prune",
    summary="Delete the backups that no retention rule keeps; never the newest verified one.",
    options={
        "keep_last": ActionOption("count", "Keep the newest N, instead of the configured rules."),
        "remove_partials": ActionOption(
            "flag",
            "Remove the partial files that runs on other hosts left; you confirm that none is still writing.",
            by_person=True,
        ),
    },
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    command_group="backups",
)


def plan(context: ActionContext) -> Plan:
    """Decide what to delete. Raises Refused, NothingToDo."""
    store = open_store(context, "--from")
    if context.source_failure:
        raise Refused(
            f"the database failed its last check ({context.source_failure}), so no backup of it is deleted",
            reason="source_failed",
            next_step="see `queuekeeper history`; restore or repair it, take a verified backup, then prune",
        )
    backups = {backup.name: backup for backup in store.list_backups().backups.values()}
    candidates = (_retention_candidate(context, backup) for backup in backups.values())
    decision = decide_retention(candidates, _keep_rules(context), context.now())
    leftovers = find_leftovers(context.target, (Path(store.location),))
    partials = [str(each.path) for each in leftovers] if context.options.get("remove_partials") else []
    deletions = (*decision.to_delete, *store.orphaned_manifests(), *partials)
    if not deletions:
        raise NothingToDo(
            f"all {len(backups)} backups are kept" + describe_leftovers(leftovers),
            reason="all_kept",
            next_step=leftovers_cure(context.target) if leftovers else "",
        )
    return Plan(steps=tuple(f"delete {name}" for name in deletions), figures=_plan_figures(backups, decision))


def run(context: ActionContext, plan: Plan) -> Done:
    """Delete the backups that were decided upon."""
    store = open_store(context, "--from")
    store.prepare_location()
    freed = deleted = 0
    context.emit_phase("prune")
    for step in plan.steps:
        context.stop.raise_if_requested()
        name = step.removeprefix("delete ")
        freed += store.delete_backup(store.reference_of(name))
        deleted += not is_manifest_name(name) and PARTIAL not in name
    store.sync_deletions()
    kept_count = plan.figures["kept"]
    leftovers = find_leftovers(context.target, (Path(store.location),))
    return Done(
        f"deleted {deleted} backups, kept {kept_count}" + describe_leftovers(leftovers),
        {"deleted": deleted, "kept": kept_count, "freed_bytes": freed},
    )


def _keep_rules(context: ActionContext) -> RetentionCounts:
    last = context.options.get("keep_last")
    if last is not None:
        return RetentionCounts(last=int(last), hourly=0, daily=0, weekly=0, monthly=0)
    settings = context.target.backup
    return settings.keep if settings is not None else RetentionCounts()


def _retention_candidate(context: ActionContext, backup: Backup) -> RetentionCandidate:
    manifest = backup.manifest
    own = manifest is not None and belongs_to(manifest, context.target)
    kind = "manual" if manifest is None else manifest.kind
    return RetentionCandidate(backup.name, backup.snapshot_time, backup.state, kind, own)


def _plan_figures(backups: Mapping[str, Backup], decision: RetentionDecision) -> Mapping[str, Figure]:
    freed = sum(backups[name].size for name in decision.to_delete)
    reasons = "; ".join(f"{name}: {', '.join(why)}" for name, why in list(decision.keep_reasons.items())[:20])
    return {
        "kept": len(decision.keep_reasons),
        "delete": len(decision.to_delete),
        "freed_bytes": freed,
        "why_kept": reasons,
    }
