"""Takes a backup while writers go on, proves its content, and publishes it with its manifest.

Runbook: docs/runbook.md#queuebackuptooold. A backup counts from its snapshot, not from its end, and only once proved.
"""

import re
import time
from collections.abc import Mapping

from actions.backups.copy_proof import ProofLevel
from actions.backups.select import describe_unchecked
from actions.backups.store import open_store
from actions.backups.take import BackupKind, PublishedBackup, backup_bytes_needed, take_backup
from actions.model.context import ActionContext
from actions.model.errors import Refused
from actions.model.options import ActionOption
from actions.model.plan import ACCEPTED_FIGURE, Done, Figure, Plan
from actions.spec import ActionSpec
from actions.sqlite.connection import uses_rollback_journal
from actions.sqlite.disk_space import database_bytes

SPEC = ActionSpec(
    name="backup",
    summary="Take a backup while writers go on, verify its content, publish it with its manifest.",
    options={
        "name": ActionOption("text", "A word that becomes part of the file name: letters, digits, - and _."),
        "accept_loss": ActionOption(
            "flag",
            "You confirm that the content is as it should be, also where much of what was there before is gone.",
            by_person=True,
        ),
        "full": ActionOption(
            "flag", "Compare every page with what SQLite reads in the source, and record the digest of all content."
        ),
        "stall": ActionOption(
            "seconds", "The longest stall of the application that the operator accepts.", on_command_line=False
        ),
    },
    lane="long",
    backup_directory="required",
    checks_own_space=True,
    writes_pages=False,
    heeds_content_loss="never",
)

# Bytes copied per second while a writer goes on, for predicting only; what was measured is in the result.
COPY_RATE = 300e6


def plan(context: ActionContext) -> Plan:
    """Check the store and the free space in it. Raises Refused."""
    store = open_store(context, "--to")
    label = _file_label(context)
    size = database_bytes(context)
    rollback = uses_rollback_journal(context)
    store.require_space(backup_bytes_needed(context), context.target.limits.disk_reserve, "the copy")
    stall = size / COPY_RATE if rollback else 0.0
    if context.automatic and stall > context.target.limits.read_rollback:
        _require_accepted_stall(context, stall)
    return Plan(
        steps=(
            f"copy {size} bytes of {context.target.path} to {store.location}",
            "prove the copy",
            "publish it with its manifest",
        ),
        figures={"bytes": size, "directory": store.location, "label": label, "rollback_journal": rollback},
        stall=stall,
    )


def run(context: ActionContext, plan: Plan) -> Done:
    """Copy, prove, publish. Nothing is left under a final name unless it was proved."""
    store = open_store(context, "--to")
    removed = store.prepare_location()
    started = time.monotonic()
    label = str(plan.figures["label"])
    kind: BackupKind = "scheduled" if context.automatic else "manual"
    level: ProofLevel = "content" if context.options.get("full") else "pages"
    published = take_backup(context, store, label, kind=kind, level=level)
    figures = _result_figures(published, time.monotonic() - started, removed)
    message = f"backed up to {published.reference}; {published.copied.proof.words}{_content_remark(published)}"
    return Done(message, figures)


def _content_remark(published: PublishedBackup) -> str:
    """What of the copy could not be checked here, and what it lacks that the database held before."""
    manifest = published.manifest
    unchecked = describe_unchecked(manifest)
    if manifest.accepted_loss:
        return f"{unchecked}; accepted as it is: {manifest.accepted_loss}"
    lost = f"; the database lost most of its content before: {manifest.content_lost}" if manifest.content_lost else ""
    return unchecked + lost


def _file_label(context: ActionContext) -> str:
    label = str(context.options.get("name") or "")
    if label and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", label):
        raise Refused(
            f"the name {label!r} cannot be part of a file name", reason="name", next_step="use letters, digits, - and _"
        )
    return label


def _require_accepted_stall(context: ActionContext, stall: float) -> None:
    if context.numeric_option("stall", 0.0) < stall:
        raise Refused(
            f"in rollback-journal mode every commit waits for the copy, about {stall:.2f} s",
            reason="stall",
            next_step="start it yourself at a quiet time, or switch the application to journal_mode=WAL",
        )


def _result_figures(published: PublishedBackup, seconds: float, removed: int) -> Mapping[str, Figure]:
    copied, manifest = published.copied, published.manifest
    accepted = {ACCEPTED_FIGURE: manifest.snapshot_time} if manifest.accepted_loss else {}
    lost = {"content_lost": manifest.content_lost} if manifest.content_lost else {}
    unchecked = {"unchecked": "; ".join(manifest.unchecked)} if manifest.unchecked else {}
    return {
        **accepted,
        **lost,
        **unchecked,
        "path": published.reference,
        "sequence": manifest.sequence,
        "method": copied.method,
        "note": copied.note,
        "proof": copied.proof.level,
        "content_sha256": copied.proof.content_sha256 or "",
        "bytes": manifest.bytes,
        "pages": manifest.pages,
        "rows": sum(manifest.row_counts.values()),
        "restarts": copied.restarts,
        "wal_growth_bytes": copied.wal_growth,
        "copy_seconds": round(copied.times.copy, 4),
        "compare_seconds": round(copied.times.compare, 4),
        "prove_seconds": round(copied.times.verify, 4),
        "sync_seconds": round(published.sync_seconds, 4),
        "hash_seconds": round(published.hash_seconds, 4),
        "seconds": round(seconds, 4),
        "leftovers_removed": removed,
    }
