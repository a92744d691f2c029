"""Finds the tables whose rowids a VACUUM may change: those without an INTEGER PRIMARY KEY.

"The VACUUM command may change the ROWIDs for entries in any tables that do not have an explicit INTEGER PRIMARY KEY."
(https://sqlite.org/lang_vacuum.html). Our SQLite keeps them where the table has an index (docs/safety.md), but that
is not guaranteed. An application that stores such a rowid, or an external-content FTS table, would then read other rows.
"""

import apsw

from collectors.queue_profiles.detection import detect_profile
from collectors.queue_profiles.quoting import quote_identifier
from collectors.target import Target

# An INTEGER PRIMARY KEY is the rowid itself, so SQLite makes no index for it; for any other primary key it does. Shadow
# tables are those of SQLite's own modules (FTS, R-Tree), which tolerate a VACUUM.
_TABLES_WITHOUT_KEY = """
SELECT name FROM pragma_table_list AS t
WHERE schema = 'main' AND type = 'table' AND NOT wr AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
  AND NOT (EXISTS (SELECT 1 FROM pragma_table_info(t.name) WHERE pk)
           AND NOT EXISTS (SELECT 1 FROM pragma_index_list(t.name) WHERE origin = 'pk'))
ORDER BY name
"""


def renumbered_tables(connection: apsw.Connection, target: Target) -> tuple[str, ...]:
    """The tables with rows whose rowids may change, without those that the profile declares unused.

    Raises apsw.Error, ProfileError.
    """
    profile = detect_profile(connection, target)
    unused = profile.rowids_unused if profile is not None else frozenset()
    tables = [str(name) for (name,) in connection.execute(_TABLES_WITHOUT_KEY).fetchall()]
    return tuple(name for name in tables if name.lower() not in unused and _has_rows(connection, name))


def _has_rows(connection: apsw.Connection, name: str) -> bool:
    return bool(connection.execute(f"SELECT EXISTS (SELECT 1 FROM {quote_identifier(name)})").get)  # noqa: S608 quoted
