"""Brings over which keys AUTOINCREMENT has given out, so that none is given out twice."""

import apsw

from actions.salvaging.bring_over import TableSource
from actions.salvaging.read_rows import read_any_page, read_page_rows

_LARGEST_ROWID = (1 << 63) - 1


def restore_sequences(connection: apsw.Connection, source: TableSource) -> None:
    """Bring the table sqlite_sequence over, after the rows of the others. A sequence is never behind its table's largest key.

    Raises apsw.Error, OSError.
    """
    for number in source.tree.slots:
        read = read_any_page(source.file, number) if number else None
        if read is None or number in source.refused:
            continue
        for row in read_page_rows(source.file, number, read[0], source.claimed).rows:
            if row.trusted and len(row.values) == 2:
                _raise_sequence(connection, row.values[0], row.values[1])


def _raise_sequence(connection: apsw.Connection, name: object, last: object) -> None:
    if not isinstance(name, str) or not isinstance(last, int) or not 0 <= last <= _LARGEST_ROWID:
        return
    query = "SELECT max(seq) FROM sqlite_sequence WHERE name = ?"
    present = connection.execute(query, (name,)).get
    connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
    connection.execute("INSERT INTO sqlite_sequence(name, seq) VALUES (?, ?)", (name, max(last, present or 0)))
