"""Holds a profile's statements to what the profile declares: an authorizer, asked whenever a statement is compiled.

https://sqlite.org/c3ref/set_authorizer.html. It makes an expression that somebody else wrote unable to read or change
another table, to attach a file, or to call a function that reaches outside the row.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

import apsw

from collectors.queue_profiles.schema import ProfileError

_HARMLESS = frozenset({apsw.SQLITE_SELECT, apsw.SQLITE_RECURSIVE})
# What an expression about a row needs; everything else, like load_extension, zeroblob or sqlite_compileoption_used, is not.
FUNCTIONS = frozenset({
    "abs", "avg", "cast", "char", "coalesce", "concat", "concat_ws", "count", "current_date", "current_time",
    "current_timestamp", "date", "datetime", "glob", "hex", "if",
    "ifnull", "iif", "instr", "json_array_length", "json_extract", "json_type", "json_valid", "julianday", "length", "like",
    "likelihood", "likely", "lower", "ltrim", "max", "min", "nullif", "octet_length", "quote", "replace", "round", "rtrim",
    "sign", "strftime", "substr", "substring", "sum", "time", "timediff", "total", "trim", "typeof", "unhex", "unicode",
    "unixepoch", "unlikely", "upper", "->", "->>",
})  # fmt: skip
# A step may also make a new fencing token.
_CHANGING_FUNCTIONS = FUNCTIONS | {"randomblob", "random"}
_MOST_GRANTED = 10_000
Question = tuple[int, str | None, str | None]
# Never, whoever asks.
_REFUSED_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "eval"})


@dataclass(frozen=True, slots=True)
class Fence:
    """What a statement may touch, all in lower case: table -> columns that it reads, and columns that it changes.

    `granted`: the questions (action, what, of it) of readers that were answered with yes. SQLite asks some twenty times for
    each statement, and a thousand databases of one application have the same statements.
    """

    readable: Mapping[str, frozenset[str]]
    updates: Mapping[str, frozenset[str]] = field(default_factory=dict)
    inserts: frozenset[str] = frozenset()
    deletes: frozenset[str] = frozenset()
    granted: set[Question] = field(default_factory=set, init=False, repr=False, compare=False)


def reading(database: apsw.Connection, fence: Fence) -> AbstractContextManager[None]:
    """Statements of this block may read what the fence says, and nothing else. Raises ProfileError that names the rest."""

    def allowed(action: int, first: str, second: str, _trigger: str | None) -> bool:
        return _may_read(fence, action, first, second, FUNCTIONS)

    return _authorized(database, allowed, fence.granted)


@contextmanager
def changing(database: apsw.Connection, fence: Fence) -> Iterator[None]:
    """Statements of this block may read and change what the fence says; the application's triggers run as they are.

    An expression cannot pass for a trigger: SQLite names only triggers, views and WITH-tables as the source of an
    access, a fence never lets a view be read, and `WITH` is refused in expressions. What the application's own schema
    calls (defaults, generated columns, indexes on expressions) is asked for with every change and is allowed.
    Raises ProfileError that names what was refused.
    """
    schema = database.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_schema").fetchall()
    triggers = frozenset(str(name) for kind, name, _ in schema if kind == "trigger")
    own = frozenset(name.lower() for *_, sql in schema for name in re.findall(r"(\w+)\s*\(", str(sql)))
    functions = (_CHANGING_FUNCTIONS | own) - _REFUSED_FUNCTIONS

    def allowed(action: int, first: str, second: str, trigger: str | None) -> bool:
        return trigger in triggers or _may_change(fence, action, first, second, functions)

    with _authorized(database, allowed):
        yield


@contextmanager
def _authorized(
    database: apsw.Connection,
    allowed: Callable[[int, str, str, str | None], bool],
    granted: set[Question] | None = None,
) -> Iterator[None]:
    """`granted` remembers what `allowed` need not be asked again, where the trigger makes no difference."""
    refused: list[str] = []
    known = set() if granted is None else granted

    def ask(action: int, first: str | None, second: str | None, _database: str | None, trigger: str | None) -> int:
        if (action, first, second) in known:
            return apsw.SQLITE_OK
        if allowed(action, first or "", second or "", trigger):
            if granted is not None and len(granted) < _MOST_GRANTED:  # the names in a schema have no end
                granted.add((action, first, second))
            return apsw.SQLITE_OK
        refused.append(_in_words(action, first or "", second or ""))
        return apsw.SQLITE_DENY

    database.authorizer = ask
    try:
        yield
    except apsw.Error as error:
        if refused:
            raise ProfileError(f"the queue profile may not {refused[0]}: it does not declare that") from error
        raise
    finally:
        database.authorizer = None


def _in_words(action: int, first: str, second: str) -> str:
    words = {
        apsw.SQLITE_READ: f"read {first}.{second}" if second else f"read {first}",
        apsw.SQLITE_FUNCTION: f"call {second}()",
        apsw.SQLITE_UPDATE: f"change {first}.{second}",
        apsw.SQLITE_INSERT: f"insert into {first}",
        apsw.SQLITE_DELETE: f"take rows from {first}",
    }
    return words.get(action, f"do {apsw.mapping_authorizer_function[action]} {first}".strip())


def _may_read(fence: Fence, action: int, first: str, second: str, functions: frozenset[str]) -> bool:
    if action == apsw.SQLITE_READ:
        columns = fence.readable.get(first.lower())
        # No column at all: the statement only counts rows. A common table expression is named, not read.
        return columns is not None and (second == "" or second.lower() in columns)
    if action == apsw.SQLITE_FUNCTION:
        return second.lower() in functions
    return action in _HARMLESS


def _may_change(fence: Fence, action: int, first: str, second: str, functions: frozenset[str]) -> bool:
    if action == apsw.SQLITE_UPDATE:
        return second.lower() in fence.updates.get(first.lower(), frozenset())
    if action == apsw.SQLITE_INSERT:
        return first.lower() in fence.inserts
    if action == apsw.SQLITE_DELETE:
        return first.lower() in fence.deletes
    return _may_read(fence, action, first, second, functions)
