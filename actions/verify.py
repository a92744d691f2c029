"""Proves a backup: its checksum, its integrity, and that it holds what its manifest says the source held.

Runbook: docs/runbook.md#queuebackupneververified. Nothing appears beside the file.
"""

from dataclasses import replace
from pathlib import Path

from actions.run.errors import Failed, NothingToDo, Refused, Unverified
from actions.run.options import OptionKind
from actions.run.plan import Done, Plan
from actions.run.work import Work
from actions.writing.proof import Contents, prove, sha256_of
from actions.writing.publish import write_private
from collectors.manifest import Manifest, ManifestError, encode, is_of, manifest_path, read_manifest

NAME = "verify"
LONG = True
OPTIONS = {"backup": OptionKind("path", "the backup; by default the newest one")}


def plan(work: Work) -> Plan:
    """Find the backup. Raises Refused, NothingToDo, Unverified when it has no readable manifest."""
    path = _chosen(work)
    return Plan(
        steps=(f"prove {path} against its manifest",), figures={"path": str(path), "bytes": path.stat().st_size}
    )


def run(work: Work, plan: Plan) -> Done:
    """Raises Unverified. A success is written into the manifest as the time of the newest proof."""
    path = Path(str(plan.figures["path"]))
    manifest = _manifest_of(path)
    _check_source(work, path, manifest)
    found = sha256_of(path)
    if found != manifest.sha256:
        raise Unverified(
            f"{path.name} is not what was written: its SHA-256 is {found}, the manifest says {manifest.sha256}",
            reason="checksum",
            next_step="do not restore it; take a new backup, and check the disk it lay on",
        )
    work.stop.check()
    prove(path, _contents(manifest))
    write_private(manifest_path(path), encode(replace(manifest, verified_time=work.now())))
    return Done(
        f"{path.name} is proved",
        {"path": str(path), "bytes": manifest.bytes, "rows": sum(manifest.row_counts.values())},
    )


def _chosen(work: Work) -> Path:
    given = work.options.get("backup")
    if given is not None:
        path = Path(str(given))
        if not path.is_file():
            raise Failed(
                f"{path} not found", reason="missing", next_step="queuekeeper backups list shows what there is"
            )
        return path
    if work.target.backup is None:
        raise Refused(
            "no backup directory is known",
            reason="no_directory",
            next_step="give --from DIR, or backup.directory in the configuration",
        )
    found = sorted(
        work.target.backup.folder(work.target.name).glob("queue_backup_*.db"), key=lambda file: file.stat().st_mtime
    )
    if not found:
        raise NothingToDo("there is no backup yet", reason="no_backup", next_step="")
    return found[-1]


def _manifest_of(path: Path) -> Manifest:
    try:
        return read_manifest(manifest_path(path))
    except (ManifestError, OSError) as error:
        raise Unverified(
            f"{path.name} has no readable manifest: {error}", reason="no_manifest", next_step="take a new backup"
        ) from error


def _check_source(work: Work, path: Path, manifest: Manifest) -> None:
    if not is_of(manifest, work.target):
        raise Unverified(
            f"{path.name} is a backup of {manifest.source.path}, not of {work.target.path}",
            reason="foreign_source",
            next_step="name the right database or the right backup",
        )


def _contents(manifest: Manifest) -> Contents:
    return Contents(manifest.page_size, manifest.pages, manifest.schema_sha256, manifest.row_counts)
