"""Work that nobody waits for gives way to the application: a lower priority for as long as it lasts.

Never while a lock is held that the application may wait for: it would then wait for us to get a processor as well.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NICENESS = 10


@contextmanager
def lower_priority() -> Iterator[None]:
    """This thread with a niceness of at least NICENESS; nothing changes where a system has none."""
    if not hasattr(os, "setpriority"):
        yield
        return
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(before, NICENESS))
    try:
        yield
    finally:
        with suppress(PermissionError):  # only root may take it back; our process ends soon
            os.setpriority(os.PRIO_PROCESS, 0, before)
