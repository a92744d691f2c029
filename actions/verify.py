"""Proves a backup: its checksum, its integrity, and that it holds what its manifest says the source held.

Runbook: docs/runbook.md#queuebackupneververified. Nothing appears beside the file.
"""

from dataclasses import replace
from pathlib import Path

from actions.backups.publish import MANIFEST_BYTES, write_private
from actions.backups.select import Chosen, check_source, named, newest_verified, no_backup, prove_chosen
from actions.model.context import Work
from actions.model.options import OptionKind
from actions.model.plan import Done, Plan
from actions.sqlite.disk_space import writing_to
from collectors.backup_catalog.catalog import listed
from collectors.backup_catalog.manifest import encode, manifest_path

NAME = "verify"
LONG = True
AUTOMATIC = True
MAY_BE_MISSING = True
WINDOWED = False
DESTRUCTIVE = False
OPTIONS = {"backup": OptionKind("path", "the backup; by default the newest one", by_person=True)}


def plan(work: Work) -> Plan:
    """Find the backup. Raises Refused, Unverified when it has no readable manifest."""
    chosen = _chosen(work)
    return Plan(
        steps=(f"prove {chosen.path} against its manifest",),
        figures={"path": str(chosen.path), "bytes": chosen.path.stat().st_size},
    )


def run(work: Work, plan: Plan) -> Done:
    """Raises Unverified. A success is written into the manifest as the time of the newest proof."""
    chosen = named(Path(str(plan.figures["path"])))
    check_source(work, chosen)
    prove_chosen(work, chosen)
    with writing_to(chosen.path.parent, MANIFEST_BYTES, "the manifest"):
        write_private(manifest_path(chosen.path), encode(replace(chosen.manifest, verified_time=work.now())))
    rows = sum(chosen.manifest.row_counts.values())
    return Done(
        f"{chosen.path.name} is proved", {"path": str(chosen.path), "bytes": chosen.manifest.bytes, "rows": rows}
    )


def _chosen(work: Work) -> Chosen:
    """The one named; else the newest by its time, verified or not: what is newest must be good."""
    given = work.options.get("backup")
    if given is not None:
        return named(Path(str(given)))
    newest_verified(work)  # for its refusal where no place is known
    found = max(listed(work.target), key=lambda backup: backup.path.stat().st_mtime, default=None)
    if found is None:
        raise no_backup(work)
    return named(found.path)
