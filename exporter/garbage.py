"""How often Python looks for cycles of objects that only refer to each other. Our readings are none: they go by themselves."""

import gc

# Python's own numbers make it look through all readings of a thousand databases again and again while the first of them come
# in: a sixth of the CPU of a start (bench/first_page.py).
ALLOCATIONS, YOUNG, OLD = 50_000, 20, 20


def relax_garbage_collection() -> None:
    """What is there now stays for good; of what comes, look for cycles only after so many new objects."""
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, YOUNG, OLD)
