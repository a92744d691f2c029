"""Finds out only once which queue a schema is: a thousand databases of one application have one schema.

The answer depends on the schema's text, on the statistics of ANALYZE (they steer which index counts a queue) and on
what the operator chose; all of that is the key, so nothing has to be told when it changes.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import apsw

from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.detection import detect_profile
from collectors.target import Target

CACHE_SIZE = 256
SchemaRows = tuple[tuple[Any, ...], ...]

_profiles: OrderedDict[Hashable, CompiledProfile | None] = OrderedDict()
_profiles_lock = threading.Lock()


def read_schema(database: apsw.Connection) -> SchemaRows:
    """Everything that is created in the database, and its statistics, as text. Raises apsw.Error."""
    rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    if any(row[1] == "sqlite_stat1" for row in rows):
        rows += database.execute("SELECT tbl, idx, CAST(stat AS TEXT) FROM sqlite_stat1").fetchall()
    return tuple(rows)


def cached_profile(database: apsw.Connection, schema: SchemaRows, target: Target) -> CompiledProfile | None:
    """`profile_for`, from memory where this schema was seen before. Raises what that raises; errors are not kept."""
    key = (schema, _choice_key(target.profile), tuple(sorted(target.settings.items())))
    with _profiles_lock:
        if key in _profiles:
            _profiles.move_to_end(key)
            return _profiles[key]
    found = detect_profile(database, target)
    with _profiles_lock:
        _profiles[key] = found
        if len(_profiles) > CACHE_SIZE:
            _profiles.popitem(last=False)
    return found


def _choice_key(choice: str) -> Hashable:
    """What the operator chose; a file counts by what stat says of it, since it may change under us."""
    if "/" not in choice and not choice.endswith((".yaml", ".yml")):
        return choice
    try:
        found = Path(choice).stat()
    except OSError:
        return choice
    return choice, found.st_mtime_ns, found.st_size, found.st_ino
