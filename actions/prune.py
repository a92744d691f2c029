"""Deletes the backups that no retention rule keeps. actions/backups/retention.py decides which are kept and why.

Never the newest verified backup, never what is not verified, never another database's; and nothing at all before what stays
was read again and proved (actions/backups/proved_retention.py). When the source itself failed its last check, nothing is
deleted: the good backups may be all that remains.
"""

from collections.abc import Mapping
from pathlib import Path

from actions.backups.proved_retention import RetentionProof, prove_retention, retention_candidate
from actions.backups.retention import RetentionDecision, decide_retention
from actions.backups.store import BackupStore, open_store
from actions.model.context import ActionContext
from actions.model.errors import NothingToDo, Refused, Unverified
from actions.model.options import ActionOption
from actions.model.plan import Done, Figure, Plan
from actions.spec import ActionSpec
from collectors.backup_catalog.catalog import Backup
from collectors.backup_catalog.names import is_manifest_name
from collectors.backup_catalog.partial_names import PARTIAL, describe_leftovers, find_leftovers, leftovers_cure
from collectors.target import RetentionCounts

SPEC = ActionSpec(
    name="prune",
    summary="Delete the backups that no retention rule keeps; never before one that stays was read again and is intact.",
    options={
        "keep_last": ActionOption("count", "Keep the newest N, instead of the configured rules."),
        "remove_partials": ActionOption(
            "flag",
            "Remove the partial files that runs on other hosts left; you confirm that none is still writing.",
            by_person=True,
        ),
    },
    lane="long",
    needs_database=False,
    backup_directory="required",
    checks_own_space=True,
    command_group="backups",
    writes_pages=False,
    heeds_content_loss="always",
)


def plan(context: ActionContext) -> Plan:
    """Decide what to delete by the manifests; the copies are read by `run`. Raises Refused, NothingToDo."""
    store = open_store(context, "--from")
    if context.source_failure:
        raise Refused(
            f"the database failed its last check ({context.source_failure}), so no backup of it is deleted",
            reason="source_failed",
            next_step="see `queuekeeper history`; restore or repair it, take a verified backup, then prune",
        )
    backups = _backups_by_name(store)
    candidates = (retention_candidate(context, backup) for backup in backups.values())
    decision = decide_retention(candidates, _keep_rules(context), context.now())
    leftovers = find_leftovers(context.target, (Path(store.location),))
    partials = [str(each.path) for each in leftovers] if context.options.get("remove_partials") else []
    deletions = (*decision.to_delete, *store.orphaned_manifests(), *partials)
    if not deletions:
        failed = sum(backup.state == "failed" for backup in backups.values())
        damaged = f", {failed} of them are damaged" if failed else ""
        raise NothingToDo(
            f"all {len(backups)} backups are kept{damaged}" + describe_leftovers(leftovers),
            reason="all_kept",
            next_step=leftovers_cure(context.target) if leftovers else "",
        )
    proof = ("read the backups that stay, newest first, and keep an older one for each that is damaged",)
    return Plan(
        steps=(*(proof if decision.to_delete else ()), *(f"delete {name}" for name in deletions)),
        figures=_plan_figures(backups, decision),
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Read what stays, then delete what may go. Raises Unverified when nothing that stays is intact: then all of it stays."""
    store = open_store(context, "--from")
    store.prepare_location()
    backups = _backups_by_name(store)
    context.emit_phase("prove")
    proof = prove_retention(context, store, backups, _keep_rules(context))
    planned = {step.removeprefix("delete ") for step in plan.steps}
    goes = [name for name in proof.decision.to_delete if name in planned]
    if (goes or proof.verdicts) and proof.intact is None:
        raise _none_intact_error(proof)
    context.emit_phase("prune")
    partials = [name for name in planned if PARTIAL in name]
    freed = _delete_backups(context, store, [*goes, *filter(is_manifest_name, store.orphaned_manifests()), *partials])
    figures = _result_figures(proof, deleted=len(goes), kept=len(backups) - len(goes), freed=freed)
    leftovers = find_leftovers(context.target, (Path(store.location),))
    return Done(_result_message(proof, figures) + describe_leftovers(leftovers), figures)


def _backups_by_name(store: BackupStore) -> dict[str, Backup]:
    return {backup.name: backup for backup in store.list_backups().backups.values()}


def _delete_backups(context: ActionContext, store: BackupStore, names: list[str]) -> int:
    """Delete these one by one; the bytes given back."""
    freed = 0
    for name in names:
        context.stop.raise_if_requested()
        freed += store.delete_backup(store.reference_of(name))
    store.sync_deletions()
    return freed


def _keep_rules(context: ActionContext) -> RetentionCounts:
    last = context.options.get("keep_last")
    if last is not None:
        return RetentionCounts(last=int(last), hourly=0, daily=0, weekly=0, monthly=0)
    settings = context.target.backup
    return settings.keep if settings is not None else RetentionCounts()


def _plan_figures(backups: Mapping[str, Backup], decision: RetentionDecision) -> Mapping[str, Figure]:
    freed = sum(backups[name].size for name in decision.to_delete)
    return {
        "kept": len(decision.keep_reasons),
        "delete": len(decision.to_delete),
        "freed_bytes": freed,
        "why_kept": _reasons_in_words(decision),
    }


def _reasons_in_words(decision: RetentionDecision) -> str:
    return "; ".join(f"{name}: {', '.join(why)}" for name, why in list(decision.keep_reasons.items())[:20])


def _result_figures(proof: RetentionProof, *, deleted: int, kept: int, freed: int) -> dict[str, Figure]:
    return {
        "deleted": deleted,
        "kept": kept,
        "freed_bytes": freed,
        "intact": proof.intact,
        "read_again": len(proof.verdicts),
        "not_read_again": proof.unread,
        "damaged": "; ".join(v.as_sentence() for v in proof.verdicts.values() if v.state == "damaged"),
        "unreadable": "; ".join(v.as_sentence() for v in proof.verdicts.values() if v.state == "unreadable"),
        "why_kept": _reasons_in_words(proof.decision),
    }


def _result_message(proof: RetentionProof, figures: Mapping[str, Figure]) -> str:
    message = f"deleted {figures['deleted']} backups, kept {figures['kept']}"
    if proof.intact is not None:
        message += f"; {proof.intact} was read again and is intact"
    bad = [str(figures[state]) for state in ("damaged", "unreadable") if figures[state]]
    return message + (f"; an older one stays for each of these: {'; '.join(bad)}" if bad else "")


def _none_intact_error(proof: RetentionProof) -> Unverified:
    return Unverified(
        f"no backup that would stay is intact, so none is deleted: "
        f"{'; '.join(verdict.as_sentence() for verdict in proof.verdicts.values())}",
        reason="none_intact",
        next_step="take a new backup now, check the disk they lie on, then prune again",
    )
