"""The statements that profiles are compiled into, with their values and access rules, and the context of one table. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from collectors.queue_profiles.authorizer import AccessRules
from collectors.queue_profiles.errors import ProfileError
from collectors.queue_profiles.expression import (
    BoundParameter,
    Expression,
    ExpressionScope,
    bound_values,
    compile_expression,
    fill_name,
    split_time_format,
)
from collectors.queue_profiles.quoting import quote_identifier
from collectors.queue_profiles.schema import TimeFormat
from collectors.queue_profiles.table_match import MatchedTable
from collectors.queue_profiles.time_formats import SqlValue, epoch_sql, is_time_sql

# A longer queue name is cut: it is a label value.
QUEUE_NAME_LENGTH = 128


class BoundStatement(NamedTuple):
    """A statement and its values. Where the SQL has `:limit`, the caller adds that value.

    `per_queue`: the limit applies to each queue, not to all of them together. `time_format`, `zone`: of a moment in the
    result (`time_formats.moment_of`).
    """

    sql: str
    values: dict[str, SqlValue]
    access: AccessRules
    per_queue: bool = False
    time_format: TimeFormat | None = None
    zone: str = ""


@dataclass(frozen=True, slots=True)
class StatementTemplate:
    """A statement before its values are known; the other fields are those of `BoundStatement`."""

    sql: str
    parameters: tuple[BoundParameter, ...]
    access: AccessRules
    per_queue: bool = False
    time_format: TimeFormat | None = None
    zone: str = ""

    def bind_at(self, now: float) -> BoundStatement:
        """The statement with its values at `now` (seconds since the epoch)."""
        return BoundStatement(
            self.sql, bound_values(self.parameters, now), self.access, self.per_queue, self.time_format, self.zone
        )


@dataclass(frozen=True, slots=True)
class MomentExpression:
    """An expression for a time, and the format in which the file has it."""

    value: Expression
    time_format: TimeFormat
    zone: str = ""

    @property
    def as_epoch(self) -> str:
        """SQL for the time in seconds since the epoch."""
        return epoch_sql(self.value.sql, self.time_format)

    @property
    def time_check(self) -> Expression:
        """An expression that holds where the value is a time of the format."""
        return Expression(is_time_sql(f"({self.value.sql})", self.time_format), self.value.parameters)


@dataclass(frozen=True, slots=True)
class TableContext:
    """What is needed to compile statements on one table: the table, the scope of its expressions, and its access rules.

    `prefix` is put before each queue's name when a file holds several queue libraries.
    """

    table: MatchedTable
    scope: ExpressionScope
    access: AccessRules
    prefix: str = ""

    @property
    def quoted_table(self) -> str:
        """The table's name as SQL."""
        return quote_identifier(self.table.name)

    def compile_fragment(self, text: str) -> Expression:
        """Compile an expression and put it in brackets. Raises ProfileError."""
        compiled = compile_expression(text, self.scope)
        return Expression(f"({compiled.sql})", compiled.parameters)

    def has_column(self, name: str) -> bool:
        """Whether a declared column is in this table: one of `also` may be missing. Raises ProfileError."""
        return fill_name(name, self.scope.settings).lower() in self.table.columns

    def quoted_column(self, name: str) -> str:
        """A declared column as SQL. Raises ProfileError."""
        column = fill_name(name, self.scope.settings)
        if column.lower() not in self.table.columns:
            raise ProfileError(f"column {column!r} of {self.table.name} is not named in `detect`")
        return quote_identifier(column)

    def is_absent(self, text: str | None) -> bool:
        """Whether this part is omitted: not given, or a column whose name setting is empty."""
        return text is None or (text.startswith("{") and not fill_name(text.partition(":")[0], self.scope.settings))

    def compile_moment(self, text: str) -> MomentExpression:
        """Compile `EXPRESSION[:FORMAT]`. Raises ProfileError."""
        sql, time_format = split_time_format(text, self.scope)
        bare = sql.strip()
        value = Expression(self.quoted_column(bare)) if bare.replace("_", "a").isalnum() else self.compile_fragment(sql)
        return MomentExpression(value, time_format, self.scope.settings.zone_name)

    def find_queue_column(self, text: str | None) -> str:
        """The column that names the queue, as SQL; empty when it is an expression or missing."""
        if text is None or self.is_absent(text):
            return ""
        name = fill_name(text, self.scope.settings) if text.startswith("{") else text
        return quote_identifier(name) if name.lower() in self.table.columns else ""

    def queue_label(self, text: str | None) -> Expression:
        """The queue's name as a label value."""
        if text is None or self.is_absent(text):
            return Expression(self.label_sql("''"))
        column = self.find_queue_column(text)
        if column:
            return Expression(self.label_sql(column))
        compiled = self.compile_fragment(text)
        return Expression(self.label_sql(compiled.sql), compiled.parameters)

    def label_sql(self, sql: str) -> str:
        """SQL that converts an expression to a label value."""
        name = f"substr(CAST(coalesce({sql}, '') AS TEXT), 1, {QUEUE_NAME_LENGTH})"
        return f"'{self.prefix}' || {name}" if self.prefix else name


def join_conditions(*parts: Expression) -> Expression:
    """Join conditions with AND."""
    return Expression(" AND ".join(part.sql for part in parts), parameters_of(parts))


def parameters_of(parts: Iterable[Expression]) -> tuple[BoundParameter, ...]:
    """The parameters of several expressions."""
    return tuple(parameter for part in parts for parameter in part.parameters)
