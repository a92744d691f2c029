"""Finds out only once which queue a schema is: a thousand databases of one application have one schema.

The answer depends on the schema's text, on the statistics of ANALYZE (they steer which index counts a queue) and on
what the operator chose; all of that is the key, so nothing has to be told when it changes.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable

import apsw

from collectors.queue_profiles.compile import CompiledProfile
from collectors.queue_profiles.detect import AUTO, named, profile_for
from collectors.queue_profiles.schema import ProfileError
from collectors.target import Target

KEPT = 256
Schema = tuple[tuple[str | None, ...], ...]

_known: OrderedDict[Hashable, CompiledProfile | ProfileError | None] = OrderedDict()
_guard = threading.Lock()


def schema_of(database: apsw.Connection) -> Schema:
    """Everything that is created in the database, and its statistics, as text. Raises apsw.Error."""
    rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    if any(row[1] == "sqlite_stat1" for row in rows):
        rows += database.execute("SELECT tbl, idx, CAST(stat AS TEXT) FROM sqlite_stat1").fetchall()
    return tuple(rows)


def kept_profile(database: apsw.Connection, schema: Schema, target: Target) -> CompiledProfile | None:
    """`profile_for`, from memory where this schema was seen before. Raises what that raises."""
    key = (schema, _choice(target.profile), tuple(sorted(target.settings.items())))
    with _guard:
        found = key in _known
        known = _known.get(key)
        if found:
            _known.move_to_end(key)
    if not found:
        known = _found_out(database, target)
        with _guard:
            _known[key] = known
            if len(_known) > KEPT:
                _known.popitem(last=False)
    if isinstance(known, ProfileError):
        raise ProfileError(f"{known}")
    return known


def _found_out(database: apsw.Connection, target: Target) -> CompiledProfile | ProfileError | None:
    if target.profile != AUTO:
        return profile_for(database, target)  # its error names this database: it is not kept
    try:
        return profile_for(database, target)
    except ProfileError as error:
        return error


def _choice(choice: str) -> Hashable:
    """What was chosen: a file of the operator's counts by its content, which may change under us."""
    return AUTO if choice == AUTO else (choice, id(named(choice)))
