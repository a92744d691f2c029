"""Decides which backups stay once it is proved that what stays can be restored.

A manifest says what a backup was; a disk may have changed it since. So before any backup goes, those that stay are read
again, newest first, and one that is damaged counts no longer: the decision is made again, and an older one stays for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from actions.backups.retention import RetentionCandidate, RetentionDecision, decide_retention
from actions.backups.store import BackupStore, SelectedBackup
from actions.backups.stored_bytes import CopyVerdict, check_stored_copy
from actions.model.context import ActionContext
from collectors.backup_catalog.catalog import Backup, BackupState
from collectors.backup_catalog.manifest import Manifest, belongs_to
from collectors.target import RetentionCounts

# A copy that was read again within this time need not be read before an older one goes: a weekly scrub and a day, in seconds.
RECENT_PROOF = 8 * 86400.0
# Beside the newest one, whose reading is always needed, a prune reads no more than this, in bytes: a scrub reads the rest.
READ_BUDGET = 16 * 1024**3

# How a copy that was read counts in the decision; what could not be read is neither good nor bad, and stays.
_STATES: Mapping[str, BackupState] = {"intact": "verified", "damaged": "failed", "unreadable": "unverified"}


@dataclass(frozen=True, slots=True)
class RetentionProof:
    """What stays and what goes, and what reading the ones that stay showed, by name. `unread`: how many were not read.

    `safety_copies`: the names of those that were taken before a restore.
    """

    decision: RetentionDecision
    verdicts: Mapping[str, CopyVerdict] = field(default_factory=dict)
    unread: int = 0
    safety_copies: frozenset[str] = frozenset()

    @property
    def intact(self) -> str | None:
        """The newest one that stays and was proved to be intact; None without one.

        A safety copy counts only where there was no other one: a restore never takes it unasked.
        """
        ordinary = [name for name in self.verdicts if name not in self.safety_copies]
        tried = ordinary or list(self.verdicts)
        return next((name for name in tried if self.verdicts[name].state == "intact"), None)


def retention_candidate(context: ActionContext, backup: Backup) -> RetentionCandidate:
    """What the retention looks at of one backup."""
    manifest = backup.manifest
    own = manifest is not None and belongs_to(manifest, context.target)
    kind, sequence = ("manual", None) if manifest is None else (manifest.kind, manifest.sequence)
    return RetentionCandidate(backup.name, backup.snapshot_time, backup.state, kind, own, sequence, backup.is_lossy)


def prove_retention(
    context: ActionContext, store: BackupStore, backups: Mapping[str, Backup], keep: RetentionCounts
) -> RetentionProof:
    """Decide, read what stays, and decide again until nothing that stays is found damaged. Raises Cancelled, Interrupted.

    `backups` by name. Nothing is to be deleted unless one that stays is intact; once one was found damaged, the reading
    goes on until one is.
    """
    candidates = {name: retention_candidate(context, backup) for name, backup in backups.items()}
    safety = frozenset(name for name, candidate in candidates.items() if candidate.kind == "safety")
    verdicts: dict[str, CopyVerdict] = {}
    while True:
        decision = decide_retention(candidates.values(), keep, context.now())
        unread = [name for name in _keepers(decision, candidates) if name not in verdicts]
        due = [name for name in unread if _needs_reading(context, backups[name].manifest, verdicts)]
        if not due or not (decision.to_delete or (verdicts and not _has_intact(verdicts))):
            return RetentionProof(decision, verdicts, len(due), safety)
        budget = READ_BUDGET - sum(verdict.bytes_read for verdict in list(verdicts.values())[1:])
        if _has_intact(verdicts) and backups[due[0]].size > budget:
            return RetentionProof(decision, verdicts, len(due), safety)
        verdict = check_stored_copy(context, _selected(store, backups[due[0]]))
        verdicts[due[0]] = verdict
        candidates[due[0]] = replace(candidates[due[0]], state=_STATES[verdict.state])


def _keepers(decision: RetentionDecision, candidates: Mapping[str, RetentionCandidate]) -> list[str]:
    """The good ones that stay, newest first; those aside only after all others: a restore never takes them unasked."""
    good = [name for name in decision.keep_reasons if candidates[name].may_be_deleted]
    return sorted(good, key=lambda name: candidates[name].is_aside)


def _needs_reading(context: ActionContext, manifest: Manifest | None, verdicts: Mapping[str, CopyVerdict]) -> bool:
    """Whether it must be read: until one is intact every one, then those that were not read again lately.

    The proof of its making is none: it was made before the disk had time to lose it.
    """
    if not _has_intact(verdicts) or manifest is None or manifest.verified_time is None:
        return True
    was_read_again = manifest.verified_time > manifest.finished_time
    return not (was_read_again and 0 <= context.now() - manifest.verified_time <= RECENT_PROOF)


def _has_intact(verdicts: Mapping[str, CopyVerdict]) -> bool:
    return any(verdict.state == "intact" for verdict in verdicts.values())


def _selected(store: BackupStore, backup: Backup) -> SelectedBackup:
    assert backup.manifest is not None  # noqa: S101 only a backup with a manifest counts as verified
    return SelectedBackup(store, backup.reference, backup.manifest)
