"""The pieces that every statement is made of. Names are quoted; values travel as parameters, never as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from embedded.rest.parse_filter import COMPARISON_OPERATORS, TEXT_SEARCH_FUNCTIONS
from embedded.rest.query import (
    Comparison,
    Condition,
    Field,
    Filter,
    IsTest,
    JsonStep,
    LogicGroup,
    Membership,
    RowRange,
    TextSearch,
)
from embedded.rest.schema_cache import Table, TableName

JSON_TYPES = ("json", "jsonb")


class Parameters:
    """The values of one statement, by the names of their placeholders."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def bind(self, value: object) -> str:
        """The placeholder that stands for a value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return f"%({name})s"


def identifier(name: str) -> str:
    """A quoted name. `%` is doubled because psycopg reads the statement for placeholders."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def identifiers(names: Sequence[str]) -> str:
    return ", ".join(map(identifier, names))


def table_name(table: TableName) -> str:
    return f"{identifier(table.schema)}.{identifier(table.name)}"


def column(qualifier: str, name: str) -> str:
    """`qualifier` is SQL: a quoted table or alias."""
    return f"{qualifier}.*" if name == "*" else f"{qualifier}.{identifier(name)}"


def field_value(field: Field, qualifier: str, table: Table | None, parameters: Parameters) -> str:
    """A column, or what lies at a path in it. `table` is None for the rows of a function that are no table's."""
    value = column(qualifier, field.name)
    if field.json_path:
        if type_of(field, table) not in JSON_TYPES:
            value = f"to_jsonb({value})"
        value += "".join(_json_step(step, parameters) for step in field.json_path)
    return value


def type_of(field: Field, table: Table | None) -> str | None:
    found = table.columns.get(field.name) if table else None
    return found.type if found else None


def condition_sql(condition: Condition, filter_sql: Callable[[Filter], str]) -> str:
    if isinstance(condition, LogicGroup):
        inner = f" {condition.operator} ".join(condition_sql(part, filter_sql) for part in condition.conditions)
        return f"{'not ' if condition.is_negated else ''}({inner})"
    return filter_sql(condition)


def filter_value(condition: Filter, qualifier: str, table: Table | None, parameters: Parameters) -> str:
    """One filter as a boolean expression."""
    value = field_value(condition.field, qualifier, table, parameters)
    operation = condition.operation
    if isinstance(operation, Comparison):
        test = _comparison(value, operation, parameters)
    elif isinstance(operation, Membership):
        test = f"{value} = any ({parameters.bind(array_literal(operation.values))})"
    elif isinstance(operation, IsTest):
        test = f"{value} is {operation.keyword}"
    else:
        is_vector = not condition.field.json_path and type_of(condition.field, table) == "tsvector"
        test = _text_search(value, operation, parameters, is_vector=is_vector)
    return f"not ({test})" if condition.is_negated else f"({test})"


def array_literal(values: Sequence[str]) -> str:
    """Postgres' text form of an array: its element type is then that of the column it is compared with."""
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return "{" + ",".join(quoted) + "}"


def limit_offset(rows: RowRange) -> str:
    limit = f" limit {rows.limit}" if rows.limit is not None else ""
    return limit + (f" offset {rows.offset}" if rows.offset else "")


def _json_step(step: JsonStep, parameters: Parameters) -> str:
    key = f"({step.key})" if isinstance(step.key, int) else f"{parameters.bind(step.key)}::text"
    return f"{step.arrow}{key}"


def _comparison(value: str, operation: Comparison, parameters: Parameters) -> str:
    is_pattern = operation.operator in ("like", "ilike")
    text = operation.value.replace("*", "%") if is_pattern else operation.value
    operand = parameters.bind(text)
    if operation.quantifier is not None:
        operand = f"{operation.quantifier} ({operand})"
    return f"{value} {COMPARISON_OPERATORS[operation.operator]} {operand}"


def _text_search(value: str, operation: TextSearch, parameters: Parameters, *, is_vector: bool) -> str:
    language = ""
    if operation.language is not None:
        language = f"{parameters.bind(operation.language)}::regconfig, "
    if not is_vector:
        value = f"to_tsvector({language}{value})"
    return f"{value} @@ {TEXT_SEARCH_FUNCTIONS[operation.operator]}({language}{parameters.bind(operation.value)})"
