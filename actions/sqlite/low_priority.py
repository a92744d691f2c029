"""Runs work at a lower priority, so that the application gets the processor first.

Never while a lock is held that the application may wait for: it would then wait until we get a processor as well.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NICENESS = 10


@contextmanager
def lower_priority() -> Iterator[None]:
    """Run the block with a niceness of at least NICENESS; nothing changes on a system without niceness."""
    if not hasattr(os, "setpriority"):
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(before, NICENESS))
    try:
        yield
    finally:
        with suppress(PermissionError):  # only root may raise it again; our process ends soon
            os.setpriority(os.PRIO_PROCESS, 0, before)
