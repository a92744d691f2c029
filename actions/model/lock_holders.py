"""Who keeps us from a lock, in words: for the message of a run that had to give up."""

import os
from contextlib import suppress

from actions.model.context import ActionContext
from collectors.access.file_facts import describe_holder, describe_writer
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable


def describe_lock_holder(work: ActionContext) -> str:
    """Who writes or, when nobody does, who reads; always something that can stand in a sentence."""
    with suppress(LockTableUnseen, RawReaderUnavailable, OSError):
        writer = describe_writer(work.raw, work.target.path)
        if writer:
            return writer
        holders = work.raw.find_held_locks(work.target.path)
        others = [one for one in holders if one.pid not in (-1, os.getpid()) and one.row.kind != "FLOCK"]
        if others:
            return describe_holder(others[0])
    return "a process that is not visible to us"
