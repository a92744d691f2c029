"""Restricts a profile's statements to what the profile declares, by an authorizer that SQLite calls for each new statement.

https://sqlite.org/c3ref/set_authorizer.html. An expression of a profile can then not read or change
another table, attach a file, or call a function that reaches outside the row.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import apsw

from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.holder_liveness import FUNCTION_NAME, register_function

TableColumns = Mapping[str, frozenset[str]]
_HARMLESS_ACTIONS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE})
# The functions that an expression about a row needs; all others (load_extension, zeroblob, ...) are refused.
ALLOWED_FUNCTIONS = frozenset({
    "abs", "avg", "cast", "char", "coalesce", "concat", "concat_ws", "count", "current_date", "current_time",
    "current_timestamp", "date", "datetime", "glob", "hex", "if",
    "ifnull", "iif", "instr", "json_array_length", "json_extract", "json_type", "json_valid", "julianday", "length", "like",
    "likelihood", "likely", "lower", "ltrim", "max", "min", "nullif", "octet_length", "quote", "replace", "round", "rtrim",
    "sign", "strftime", "substr", "substring", "sum", "time", "timediff", "total", "trim", "typeof", "unhex", "unicode",
    "unixepoch", "unlikely", "upper", "->", "->>", FUNCTION_NAME,
})  # fmt: skip
# A step may also create a new fencing token.
_CHANGING_FUNCTIONS = ALLOWED_FUNCTIONS | {"randomblob", "random"}
# The names in a schema are not bounded, so the remembered accesses are.
_MOST_GRANTED = 10_000
AccessRequest = tuple[int, str | None, str | None]
# Refused to triggers of the application too.
_REFUSED_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "eval"})


@dataclass(frozen=True, slots=True, eq=False)
class AccessRules:
    """What a statement may access, all names in lower case: table -> columns that it reads, and columns that it changes.

    `granted`: the read requests (action, first and second argument) that were allowed before. SQLite makes some twenty for
    each statement, and a thousand databases of one application have the same statements.
    """

    readable_columns: TableColumns
    updates: TableColumns = field(default_factory=dict)
    inserts: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    granted: set[AccessRequest] = field(default_factory=set, init=False, repr=False, compare=False)


def join_access_rules(rules: Iterable[AccessRules]) -> AccessRules:
    """Rules that allow what any of these does."""
    joined = AccessRules({})
    for access in rules:
        joined = AccessRules(
            _merge_columns(joined.readable_columns, access.readable_columns),
            _merge_columns(joined.updates, access.updates),
            joined.inserts | access.inserts,
            joined.deletes | access.deletes,
        )
    return joined


def _merge_columns(first: TableColumns, second: TableColumns) -> TableColumns:
    return {table: first.get(table, frozenset()) | second.get(table, frozenset()) for table in (*first, *second)}


def allow_reading(database: apsw.Connection, access: AccessRules) -> AbstractContextManager[None]:
    """Let the statements of this block read what the rules allow and nothing else. Raises ProfileError for others."""

    def is_allowed(action: int, first: str, second: str, _trigger: str | None) -> bool:
        return _may_read(access, action, first, second, ALLOWED_FUNCTIONS)

    return _use_authorizer(database, is_allowed, access.granted)


def allow_preparing(database: apsw.Connection, access: AccessRules, target: str) -> AbstractContextManager[None]:
    """Let this block prepare a statement that reads what the rules allow and inserts it into our temporary table `target`.

    Raises ProfileError for others.
    """

    def is_allowed(action: int, first: str, second: str, _trigger: str | None) -> bool:
        if action == apsw.SQLITE_INSERT:
            return first == target
        return _may_read(access, action, first, second, ALLOWED_FUNCTIONS)

    return _use_authorizer(database, is_allowed, access.granted)


@dataclass(frozen=True, slots=True)
class SchemaEffects:
    """What the application's schema does by itself with every change: triggers, the functions that it calls, foreign keys.

    `foreign_keys`: (table, column) on both sides, in lower case; none where the connection does not enforce them.
    """

    triggers: frozenset[str]
    functions: frozenset[str]
    foreign_keys: frozenset[tuple[str, str]] = frozenset()

    def is_foreign_key_effect(self, action: int, first: str, second: str) -> bool:
        """Whether a foreign key makes this access (https://sqlite.org/foreignkeys.html, section 4.3)."""
        if action in (apsw.SQLITE_READ, apsw.SQLITE_UPDATE):
            return (first.lower(), second.lower()) in self.foreign_keys
        return action == apsw.SQLITE_DELETE and any(table == first.lower() for table, _ in self.foreign_keys)


def read_schema_effects(database: apsw.Connection) -> SchemaEffects:
    """Read the triggers, functions and foreign keys from the schema. Raises apsw.Error."""
    schema = database.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema").fetchall()
    called = frozenset(name.lower() for *_, sql in schema for name in re.findall(r"(\w+)\s*\(", str(sql)))
    return SchemaEffects(
        triggers=frozenset(str(name) for kind, name, _ in schema if kind == "trigger"),
        functions=(_CHANGING_FUNCTIONS | called) - _REFUSED_FUNCTIONS,
        foreign_keys=_foreign_keys(database) if database.pragma("foreign_keys") else frozenset(),
    )


def _foreign_keys(database: apsw.Connection) -> frozenset[tuple[str, str]]:
    """The columns of foreign keys. One without a parent column refers to the primary key, which a profile declares anyway."""
    rows = database.execute(
        'SELECT lower(s.name), lower(f."from"), lower(f."table"), lower(f."to") FROM sqlite_schema AS s, '
        "pragma_foreign_key_list(s.name) AS f WHERE s.type = 'table'"
    ).fetchall()
    pairs = (pair for child, column, parent, other in rows for pair in ((child, column), (parent, other)))
    return frozenset((str(table), str(column)) for table, column in pairs if column is not None)


@contextmanager
def allow_changes(
    database: apsw.Connection, access: AccessRules, effects: SchemaEffects | None = None
) -> Iterator[None]:
    """Let the statements of this block read and change what the rules allow; the application's triggers run unrestricted.

    So do its foreign keys, where this connection enforces them. An expression cannot pass for a trigger: SQLite names only
    triggers, views and WITH-tables as the source of an access, the rules never allow a view to be read, and `WITH` is refused
    in expressions. The functions that the application's own schema calls (defaults, generated columns, indexes on
    expressions) occur with every change and are allowed. `effects`: read before, outside the write lock. Raises ProfileError
    that names the refused access.
    """
    schema = effects or read_schema_effects(database)

    def is_allowed(action: int, first: str, second: str, trigger: str | None) -> bool:
        if trigger in schema.triggers or schema.is_foreign_key_effect(action, first, second):
            return True
        return _may_change(access, action, first, second, schema.functions)

    with _use_authorizer(database, is_allowed):
        yield


@contextmanager
def _use_authorizer(
    database: apsw.Connection,
    is_allowed: Callable[[int, str, str, str | None], bool],
    granted: set[AccessRequest] | None = None,
) -> Iterator[None]:
    """Call `is_allowed` for each access. `granted` remembers the allowed ones, where the trigger makes no difference."""
    refused: list[str] = []
    remembered, most = (set[AccessRequest](), 0) if granted is None else (granted, _MOST_GRANTED)

    def authorize_access(
        action: int, first: str | None, second: str | None, _db: str | None, trigger: str | None
    ) -> int:
        if (action, first, second) in remembered:
            return apsw.SQLITE_OK
        if is_allowed(action, first or "", second or "", trigger):
            if len(remembered) < most:
                remembered.add((action, first, second))
            return apsw.SQLITE_OK
        refused.append(_describe_access(action, first or "", second or ""))
        return apsw.SQLITE_DENY

    register_function(database)
    database.authorizer = authorize_access
    try:
        yield
    except apsw.Error as error:
        if refused:
            raise ProfileError(f"the queue profile may not {refused[0]}: it does not declare that") from error
        raise
    finally:
        database.authorizer = None


def _describe_access(action: int, first: str, second: str) -> str:
    descriptions = {
        apsw.SQLITE_READ: f"read {first}.{second}" if second else f"read {first}",
        apsw.SQLITE_FUNCTION: f"call {second}()",
        apsw.SQLITE_UPDATE: f"change {first}.{second}",
        apsw.SQLITE_INSERT: f"insert into {first}",
        apsw.SQLITE_DELETE: f"delete rows of {first}",
    }
    return descriptions.get(action, f"do {apsw.mapping_authorizer_function[action]} {first}".strip())


def _may_read(access: AccessRules, action: int, first: str, second: str, functions: frozenset[str]) -> bool:
    if action == apsw.SQLITE_READ:
        columns = access.readable_columns.get(first.lower())
        # Without a column the statement only counts rows. A common table expression is named, not read.
        return columns is not None and (second == "" or second.lower() in columns)
    if action == apsw.SQLITE_FUNCTION:
        return second.lower() in functions
    return action in _HARMLESS_ACTIONS


def _may_change(access: AccessRules, action: int, first: str, second: str, functions: frozenset[str]) -> bool:
    if action == apsw.SQLITE_UPDATE:
        return second.lower() in access.updates.get(first.lower(), frozenset())
    if action == apsw.SQLITE_INSERT:
        return first.lower() in access.inserts
    if action == apsw.SQLITE_DELETE:
        return first.lower() in access.deletes
    return _may_read(access, action, first, second, functions)
