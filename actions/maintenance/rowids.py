"""Tables whose rows a VACUUM may number anew: those without an INTEGER PRIMARY KEY.

"The VACUUM command may change the ROWIDs for entries in any tables that do not have an explicit INTEGER PRIMARY KEY."
(https://sqlite.org/lang_vacuum.html). Our SQLite keeps them where the table has an index (docs/safety.md), but nothing
promises that. An application that stores such a rowid, or an external-content FTS table, would then find other rows.
"""

import apsw

from collectors.queue_profiles.detection import detect_profile
from collectors.queue_profiles.quoting import quote_identifier
from collectors.target import Target

# An INTEGER PRIMARY KEY is the rowid itself, so SQLite makes no index for it; for any other primary key it does. Shadow
# tables are those of SQLite's own modules (FTS, R-Tree), which bear a VACUUM.
_TABLES_WITHOUT_KEY = """
SELECT name FROM pragma_table_list AS t
WHERE schema = 'main' AND type = 'table' AND NOT wr AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
  AND NOT (EXISTS (SELECT 1 FROM pragma_table_info(t.name) WHERE pk)
           AND NOT EXISTS (SELECT 1 FROM pragma_index_list(t.name) WHERE origin = 'pk'))
ORDER BY name
"""


def renumbered_tables(connection: apsw.Connection, target: Target) -> tuple[str, ...]:
    """The tables with rows whose rowids may change, and of which no profile says that nobody uses them.

    Raises apsw.Error, ProfileError.
    """
    profile = detect_profile(connection, target)
    unused = profile.rowids_unused if profile is not None else frozenset()
    found = [str(name) for (name,) in connection.execute(_TABLES_WITHOUT_KEY).fetchall()]
    return tuple(name for name in found if name.lower() not in unused and _has_rows(connection, name))


def _has_rows(connection: apsw.Connection, name: str) -> bool:
    return bool(connection.execute(f"SELECT EXISTS (SELECT 1 FROM {quote_identifier(name)})").get)  # noqa: S608 quoted
