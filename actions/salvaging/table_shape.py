"""What SQLite says of a table that was created again from the damaged schema: how the values of a record become a row."""

from dataclasses import dataclass
from typing import Literal

import apsw

from actions.salvaging.records import Value
from collectors.queue_profiles.quoting import quote_identifier

Affinity = Literal["text", "number", "any"]

_VIRTUAL_GENERATED, _STORED_GENERATED = 2, 3


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column whose values are in the records. `writable` is false for a generated one. `required`: NOT NULL."""

    name: str
    affinity: Affinity
    writable: bool
    required: bool


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table. `columns` in the order of its records. `alias`: the position of the INTEGER PRIMARY KEY, which is the rowid.

    `rowid_name`: by which name a rowid can be inserted, empty where there is none.
    """

    name: str
    columns: tuple[StoredColumn, ...]
    with_rowid: bool
    alias: int | None
    rowid_name: str
    required_values: int

    def insert_statement(self, stored: int, raw_text: frozenset[int] = frozenset()) -> str:
        """The statement that inserts a record of `stored` values; columns that it lacks get their defaults.

        `raw_text`: the positions of values that are bytes of a text.
        """
        names, places = [], []
        if self.rowid_name:
            names.append(self.rowid_name)
            places.append("?")
        for position in self.inserted_positions(stored):
            names.append(self.columns[position].name)
            places.append("CAST(? AS TEXT)" if position in raw_text else "?")
        columns = ", ".join(map(quote_identifier, names))
        table = quote_identifier(self.name)
        if not names:
            return f"INSERT INTO {table} DEFAULT VALUES"
        return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(places)})"  # noqa: S608 quoted

    def inserted_positions(self, stored: int) -> list[int]:
        """The positions of a record of `stored` values that are inserted by name: not generated ones, not the rowid's alias."""
        return [at for at in range(stored) if self.columns[at].writable and at != self.alias]

    def can_hold(self, values: tuple[Value, ...]) -> bool:
        """Whether a record of this length, with values of these types, can be a row of the table."""
        if not self.required_values <= len(values) <= len(self.columns):
            return False
        return all(
            _fits_column(value, column) or position == self.alias
            for position, (value, column) in enumerate(zip(values, self.columns, strict=False))
        )


def _fits_column(value: Value, column: StoredColumn) -> bool:
    """Whether SQLite could have stored it: a TEXT column turns numbers into text, and NOT NULL is never NULL."""
    if value is None:
        return not column.required
    return not (column.affinity == "text" and isinstance(value, int | float))


def read_table_shape(connection: apsw.Connection, name: str) -> TableShape:
    """The shape of a table of this database. Raises apsw.Error."""
    rows = connection.execute(
        'SELECT name, type, hidden, pk, "notnull" FROM pragma_table_xinfo(?) WHERE hidden IS NOT 1', (name,)
    ).fetchall()
    columns = {
        str(row[0]): StoredColumn(str(row[0]), column_affinity(str(row[1])), row[2] == 0, bool(row[4]))
        for row in rows
        if row[2] != _VIRTUAL_GENERATED
    }
    without_rowid = bool(
        connection.execute("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (name,)).get
    )
    indexes = connection.execute("SELECT name, origin FROM pragma_index_list(?)", (name,)).fetchall()
    key_index = next((str(index) for index, origin in indexes if origin == "pk"), None)
    if without_rowid and key_index is not None:
        return _shape_without_rowid(connection, name, columns, key_index)
    keys = [str(row[0]) for row in rows if row[3]]
    alias = list(columns).index(keys[0]) if len(keys) == 1 and key_index is None else None
    used = {str(row[0]).lower() for row in rows}
    free_names = (word for word in ("rowid", "_rowid_", "oid") if word not in used)
    rowid_name = list(columns)[alias] if alias is not None else next(free_names, "")
    return TableShape(name, tuple(columns.values()), True, alias, rowid_name, 1)


def _shape_without_rowid(
    connection: apsw.Connection, name: str, columns: dict[str, StoredColumn], key_index: str
) -> TableShape:
    """The records of a table WITHOUT ROWID have its primary key first; its index lists them in that order."""
    ordered = connection.execute("SELECT name, key FROM pragma_index_xinfo(?)", (key_index,)).fetchall()
    stored = tuple(columns[str(column)] for column, _ in ordered if column in columns)
    return TableShape(name, stored, False, None, "", sum(1 for _, key in ordered if key))


def column_affinity(declared: str) -> Affinity:
    """What SQLite makes of values in a column of this type (https://sqlite.org/datatype3.html, section 3.1)."""
    words = declared.upper()
    if "INT" in words:
        return "number"
    if any(word in words for word in ("CHAR", "CLOB", "TEXT")):
        return "text"
    return "any" if not words or "BLOB" in words or words == "ANY" else "number"
