"""Names the process that holds a lock we need, for the message of a run that gave up."""

import os
from contextlib import suppress

from actions.model.context import ActionContext
from collectors.access.file_facts import describe_holder, describe_writer
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable


def describe_lock_holder(work: ActionContext) -> str:
    """The process that writes or, without a writer, one that reads; always words that fit into a sentence."""
    with suppress(LockTableUnseen, RawReaderUnavailable, OSError):
        writer = describe_writer(work.raw, work.target.path)
        if writer:
            return writer
        holders = work.raw.find_held_locks(work.target.path)
        others = (holder for holder in holders if holder.pid not in (-1, os.getpid()) and holder.row.kind != "FLOCK")
        if (other := next(others, None)) is not None:
            return describe_holder(other)
    return "a process that is not visible to us"
