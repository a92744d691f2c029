"""Caches the compiled profile of each schema: a thousand databases of one application have one schema.

The profile depends on the schema's text, on the statistics of ANALYZE (they decide which index counts a queue) and on the
operator's choice and settings; all of these are the key, so no entry has to be invalidated.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path

import apsw

from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.detection import detect_profile
from collectors.target import Target

CACHE_SIZE = 256

_profiles: OrderedDict[Hashable, CompiledProfile | None] = OrderedDict()
_profiles_lock = threading.Lock()


def cached_profile(database: apsw.Connection, schema: Hashable, target: Target) -> CompiledProfile | None:
    """The result of `detect_profile`, from the cache where this schema was seen before. Errors are raised and not cached.

    `schema`: what was read of the schema and its statistics.
    """
    key = (schema, _choice_key(target.profile), tuple(sorted(target.settings.items())))
    with _profiles_lock:
        if key in _profiles:
            _profiles.move_to_end(key)
            return _profiles[key]
    profile = detect_profile(database, target)
    with _profiles_lock:
        _profiles[key] = profile
        if len(_profiles) > CACHE_SIZE:
            _profiles.popitem(last=False)
    return profile


def _choice_key(choice: str) -> Hashable:
    """The operator's choice as a key; a file with its modification time, size and inode, since it may change."""
    if "/" not in choice and not choice.endswith((".yaml", ".yml")):
        return choice
    try:
        status = Path(choice).stat()
    except OSError:
        return choice
    return choice, status.st_mtime_ns, status.st_size, status.st_ino
