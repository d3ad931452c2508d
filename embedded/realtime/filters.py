"""Filters of `postgres_changes` subscriptions: `column=op.value`, several joined by commas (all must match).

Source: supabase/realtime, lib/extensions/postgres_cdc_rls/subscriptions.ex (read 2026-11-20).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from embedded.database import Pool

#: Operators that Postgres decides with the value on both sides of the column's type.
INFIX_OPERATORS = {
    "eq": "=",
    "neq": "<>",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
}
OPERATORS = frozenset(INFIX_OPERATORS) | {"in", "is"}
IS_KEYWORDS = frozenset({"null", "true", "false", "unknown"})
MAX_IN_VALUES = 100


class FilterError(ValueError):
    """A filter that can never be right; the message is Realtime's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    column: str
    operator: str  #: one of `OPERATORS`
    value: str  #: as written, without quotes; for `in` a Postgres array literal
    negated: bool

    def __str__(self) -> str:
        return f'{{"{self.column}", "{self.operator}", "{self.value}", {str(self.negated).lower()}}}'

    def expression(self, type_sql: str) -> sql.Composed:
        """A boolean SQL expression over `given.value`, a text, and the parameter `value`."""
        type_name = sql.SQL(type_sql)
        if self.operator == "is":
            keyword = sql.SQL(self.value if self.value in IS_KEYWORDS else "null")
            expression = sql.SQL("(given.value::{} is {})").format(type_name, keyword)
        elif self.operator == "in":
            expression = sql.SQL("(given.value::{0} = any (%(value)s::text::{0}[]))").format(type_name)
        else:
            operator = sql.SQL(INFIX_OPERATORS[self.operator])
            expression = sql.SQL("(given.value::{0} {1} %(value)s::text::{0})").format(type_name, operator)
        return sql.SQL("(not {})").format(expression) if self.negated else expression


async def matching(pool: Pool, condition: Filter, type_sql: str, values: Sequence[str | None]) -> list[bool]:
    """Which of a column's values the filter lets through. Null equals nothing and differs from nothing, so it is
    let through only by `is` and `isdistinct`. `type_sql` is the column's type as SQL writes it.

    Raises:
        psycopg.Error: The operator or the value does not suit the type.
    """
    query = sql.SQL(
        "select coalesce({}, false) from unnest(%(values)s::text[]) with ordinality as given (value, position)"
        " order by position"
    ).format(condition.expression(type_sql))
    async with pool.connection() as connection:
        cursor = await connection.execute(query, {"values": list(values), "value": condition.value})
        return [matches for (matches,) in await cursor.fetchall()]


async def printed_values(pool: Pool, condition: Filter, type_sql: str) -> list[str | None]:
    """The value of an `eq` or `neq`, or the values of an `in`, as Postgres prints them.

    Raises:
        psycopg.Error: The value does not suit the type.
    """
    type_name = sql.SQL(type_sql)
    if condition.operator == "in":
        query = sql.SQL("select value::text from unnest(%s::text::{}[]) as value").format(type_name)
    else:
        query = sql.SQL("select %s::text::{}::text").format(type_name)
    async with pool.connection() as connection:
        cursor = await connection.execute(query, [condition.value])
        return [value for (value,) in await cursor.fetchall()]


def parse_filters(text: str | None) -> tuple[Filter, ...]:
    """The filters in a subscription's `filter`; none when it is missing or blank.

    Raises:
        FilterError: It cannot be read.
    """
    if text is None or not text.strip():
        return ()
    try:
        return tuple(_parse_filter(segment.strip()) for segment in _split_at_commas(text.strip()))
    except FilterError as error:
        raise FilterError(f"Error parsing `filter` params: {error}") from None


def _parse_filter(segment: str) -> Filter:
    if not segment:
        raise FilterError("filter must not contain empty segments (check for extra commas)")
    column, equals, condition = segment.partition("=")
    negated = condition.startswith("not.")
    operator, dot, value = condition.removeprefix("not.").partition(".")
    if not equals or not dot or operator not in OPERATORS:
        parts = [operator, value] if dot else [condition if equals else segment]
        raise FilterError("[" + ", ".join(f'"{part}"' for part in parts) + "]")
    if operator == "in":
        if not (value.startswith("(") and value.endswith(")") and len(value) >= 2):
            raise FilterError("`in` filter value must be wrapped by parentheses")
        value = "{" + value[1:-1] + "}"
    else:
        value = _unquote(value)
    return Filter(column=column, operator=operator, value=value, negated=negated)


def _split_at_commas(text: str) -> list[str]:
    """Split at the commas that stand neither in parentheses nor in quotes."""
    segments = [""]
    depth = 0
    quoted = escaped = False
    previous = ""
    for character in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped = character == "\\"
            quoted = character != '"'
        elif character == '"':
            quoted = previous in {".", "(", ","}  # elsewhere a quote is a plain character
        elif character == "(":
            depth += 1
        elif character == ")":
            depth = max(0, depth - 1)
        elif character == "," and depth == 0:
            segments.append("")
            previous = ""
            continue
        segments[-1] += character
        previous = character
    return segments


def _unquote(value: str) -> str:
    """`"a\\"b"` -> `a"b`; what is not wholly quoted stays as it is."""
    if len(value) < 2 or not value.startswith('"'):
        return value
    characters: list[str] = []
    inner = iter(value[1:])
    for character in inner:
        if character == '"':
            return "".join(characters) if next(inner, None) is None else value
        characters.append(next(inner, "") if character == "\\" else character)
    return value
