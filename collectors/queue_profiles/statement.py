"""What profiles are compiled into: statements with their values and the fence that they run behind. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from collectors.queue_profiles.authorizer import AccessRules
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
from collectors.queue_profiles.schema import ProfileError, TimeFormat
from collectors.queue_profiles.table_match import MatchedTable
from collectors.queue_profiles.time_formats import SqlValue, epoch_sql, is_time_sql

# A longer queue name is cut: it is a label value.
QUEUE_NAME_LENGTH = 128


class BoundStatement(NamedTuple):
    """A statement and its values. Where the SQL has `:limit`, the caller adds that value.

    `per_queue`: the limit bounds each queue for itself, not all of them together. `form`, `zone`: of a moment in the
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
    """A statement before its values are known; the fields are those of `Bound`."""

    sql: str
    parameters: tuple[BoundParameter, ...]
    access: AccessRules
    per_queue: bool = False
    time_format: TimeFormat | None = None
    zone: str = ""

    def bind_at(self, now: float) -> BoundStatement:
        """With its values at `now` (seconds since the epoch)."""
        return BoundStatement(
            self.sql, bound_values(self.parameters, now), self.access, self.per_queue, self.time_format, self.zone
        )


@dataclass(frozen=True, slots=True)
class MomentExpression:
    """An expression for a time and its format."""

    value: Expression
    time_format: TimeFormat
    zone: str = ""

    @property
    def as_epoch(self) -> str:
        """SQL for the seconds since the epoch."""
        return epoch_sql(self.value.sql, self.time_format)

    @property
    def time_check(self) -> Expression:
        """Holds where there is a time."""
        return Expression(is_time_sql(f"({self.value.sql})", self.time_format), self.value.parameters)


@dataclass(frozen=True, slots=True)
class TableContext:
    """What the frames of one table share: its place, the scope of expressions about it, and the fence for reading it.

    `prefix` stands before each queue's name when a file holds several systems.
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
        """An expression in brackets. Raises ProfileError."""
        one = compile_expression(text, self.scope)
        return Expression(f"({one.sql})", one.parameters)

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
        """Whether this is left out: not given, or a column whose name the operator left empty."""
        return text is None or (text.startswith("{") and not fill_name(text.partition(":")[0], self.scope.settings))

    def compile_moment(self, text: str) -> MomentExpression:
        """`EXPRESSION[:FORMAT]`. Raises ProfileError."""
        sql, form = split_time_format(text, self.scope)
        bare = sql.strip()
        value = Expression(self.quoted_column(bare)) if bare.replace("_", "a").isalnum() else self.compile_fragment(sql)
        return MomentExpression(value, form, self.scope.settings.zone_name)

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
        one = self.compile_fragment(text)
        return Expression(self.label_sql(one.sql), one.parameters)

    def label_sql(self, sql: str) -> str:
        """SQL that makes a label value of an expression."""
        name = f"substr(CAST(coalesce({sql}, '') AS TEXT), 1, {QUEUE_NAME_LENGTH})"
        return f"'{self.prefix}' || {name}" if self.prefix else name


def join_conditions(*parts: Expression) -> Expression:
    """Holds where all of them do."""
    return Expression(" AND ".join(part.sql for part in parts), parameters_of(parts))


def parameters_of(parts: Iterable[Expression]) -> tuple[BoundParameter, ...]:
    """The parameters of several expressions."""
    return tuple(parameter for part in parts for parameter in part.parameters)
