"""Counts the backups of a database: the one order that no clock can change."""

from actions.backups.store import BackupStore
from actions.model.context import ActionContext
from collectors.backup_catalog.manifest import MAX_SEQUENCE
from collectors.backup_catalog.names import backup_file_name, compressed_name, manifest_name
from collectors.backup_catalog.partial_names import usable_name_length

_ONE_TICK = 1e-6  # the precision of the time in a name, in seconds


def next_sequence(context: ActionContext, store: BackupStore) -> int:
    """The sequence of the next backup: beyond every one in the store and in our history.

    So it goes on counting when either of the two was lost. Raises OSError, StoreUnavailable.
    """
    backups = store.list_backups().backups.values()
    listed = max((b.manifest.sequence or 0 for b in backups if b.manifest is not None), default=0)
    return min(MAX_SEQUENCE, 1 + max(listed, context.run_history.backup_sequence()))


def choose_backup_name(context: ActionContext, store: BackupStore, label: str) -> str:
    """The name of a new backup, without compression. Raises OSError.

    A clock that was set back gives a time that an earlier backup may have in its name: then the next free one is used.
    """
    moment, longest = context.now(), usable_name_length(store.draft_directory)
    while True:
        name = backup_file_name(context.target.name, label, moment, longest)
        if not any(store.has_backup(store.reference_of(n)) for n in (name, compressed_name(name), manifest_name(name))):
            return name
        moment += _ONE_TICK
