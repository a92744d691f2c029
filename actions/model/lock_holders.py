"""Who keeps us from a lock, in words: for the message of a run that had to give up."""

import os
from contextlib import suppress

from actions.model.context import Work
from collectors.access.file_facts import in_words, who_writes
from collectors.raw_reader.client import LockTableUnseen, RawReaderUnavailable


def in_the_way(work: Work) -> str:
    """Who writes or, when nobody does, who reads; always something that can stand in a sentence."""
    with suppress(LockTableUnseen, RawReaderUnavailable, OSError):
        writer = who_writes(work.raw, work.target.path)
        if writer:
            return writer
        holders = work.raw.holders(work.target.path)
        others = [one for one in holders if one.pid not in (-1, os.getpid()) and one.row.kind != "FLOCK"]
        if others:
            return in_words(others[0])
    return "a process that is not visible to us"
