"""Insert, upsert, update and delete as SQL: the statement whose rows the read plan then shapes."""

# ruff: noqa: S608  every name goes through identifier(), every value through Parameters.bind()

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from embedded.rest.errors import invalid_body, unknown_column, where_clause_required
from embedded.rest.query import Condition
from embedded.rest.schema_cache import Table
from embedded.rest.sql import (
    Parameters,
    column,
    condition_sql,
    filter_value,
    identifier,
    identifiers,
    table_name,
)

Resolution = Literal["merge-duplicates", "ignore-duplicates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """The rows of a request's body."""

    text: str  #: the JSON as it came, so that no number loses a digit
    is_array: bool
    row_count: int
    columns: tuple[str, ...]


def read_payload(text: str, document: Any, columns: tuple[str, ...] | None, table: Table) -> Payload:
    """Check the decoded body. `columns` is the parameter of that name, which overrides the rows' own keys."""
    rows = document if isinstance(document, list) else [document]
    if not all(isinstance(row, dict) for row in rows):
        raise invalid_body("Empty or invalid json")
    if columns is None:
        if any(row.keys() != rows[0].keys() for row in rows):
            raise invalid_body("All object keys must match")
        columns = tuple(rows[0]) if rows else ()
    for name in columns:
        if name not in table.columns:
            raise unknown_column(table.name.name, name)
    return Payload(text=text, is_array=isinstance(document, list), row_count=len(rows), columns=columns)


def insert_sql(
    table: Table,
    payload: Payload,
    parameters: Parameters,
    *,
    returning: Sequence[str],
    resolution: Resolution | None,
    conflict_columns: tuple[str, ...],
    fills_defaults: bool,
) -> str:
    """`fills_defaults`: a key that a row lacks takes its column's default instead of null."""
    names = identifiers(payload.columns)
    statement = f"insert into {table_name(table.name)} {f'({names}) ' if names else ''}"
    statement += f"select {_columns_of_body(payload)} {_body(table, payload, parameters, fills_defaults)}"
    if resolution is not None and conflict_columns:
        if resolution == "merge-duplicates" and payload.columns:
            # Counts inserted rows: one up for each row tried, one down for each that was merged.
            statement += f" where {_count_inserted('+', '0')}"
            settings = ", ".join(f"{identifier(name)} = excluded.{identifier(name)}" for name in payload.columns)
            action = f"update set {settings} where {_count_inserted('-', '-1')}"
        else:
            action = "nothing"
        statement += f" on conflict ({identifiers(conflict_columns)}) do {action}"
    return statement + _returning(table, returning)


def update_sql(
    table: Table,
    payload: Payload,
    conditions: Sequence[Condition],
    parameters: Parameters,
    *,
    returning: Sequence[str],
    fills_defaults: bool,
) -> str:
    if payload.row_count != 1:
        raise invalid_body("An update takes one JSON object")
    if not payload.columns:
        return f"select {_outputs(table, returning)} from {table_name(table.name)} where false"
    if not conditions:
        raise where_clause_required("UPDATE")
    settings = ", ".join(f"{identifier(name)} = pgrst_body.{identifier(name)}" for name in payload.columns)
    return (
        f"update {table_name(table.name)} set {settings} "
        + _body(table, payload, parameters, fills_defaults)
        + _where(table, conditions, parameters)
        + _returning(table, returning)
    )


def delete_sql(
    table: Table, conditions: Sequence[Condition], parameters: Parameters, *, returning: Sequence[str]
) -> str:
    if not conditions:
        raise where_clause_required("DELETE")
    return (
        f"delete from {table_name(table.name)}" + _where(table, conditions, parameters) + _returning(table, returning)
    )


def _columns_of_body(payload: Payload) -> str:
    return ", ".join(f"pgrst_body.{identifier(name)}" for name in payload.columns)


def _body(table: Table, payload: Payload, parameters: Parameters, fills_defaults: bool) -> str:
    """`from ... pgrst_body`: the payload as rows of the table's own types."""
    json_type = "jsonb" if fills_defaults else "json"
    source = f"from (select {parameters.bind(payload.text)}::{json_type} as document) pgrst_payload"
    document = "pgrst_payload.document"
    if fills_defaults:
        defaults = _defaults(table, payload)
        if payload.is_array:
            filled = (
                f"select jsonb_agg({defaults} || element) as document from jsonb_array_elements({document}) element"
            )
        else:
            filled = f"select {defaults} || {document} as document"
        source += f", lateral ({filled}) pgrst_filled"
        document = "pgrst_filled.document"
    if payload.columns:
        types = ", ".join(f"{identifier(name)} {_type(table, name)}" for name in payload.columns)
        to_rows = f"{json_type}_to_record{'set' if payload.is_array else ''}"
        rows = f"select {identifiers(payload.columns)} from {to_rows}({document}) as _({types})"
    elif payload.is_array:
        rows = f"select from {json_type}_array_elements({document}) _"
    else:
        rows = "select"
    return f"{source}, lateral ({rows}) pgrst_body"


def _defaults(table: Table, payload: Payload) -> str:
    pairs = [
        f"{_text(name)}, {default.replace('%', '%%')}"
        for name in payload.columns
        if (default := table.columns[name].default) is not None
    ]
    return f"jsonb_build_object({', '.join(pairs)})"


def _type(table: Table, name: str) -> str:
    return table.columns[name].type.replace("%", "%%")


def _text(text: str) -> str:
    """A column's name, from the schema cache, as a text constant."""
    return "'" + text.replace("'", "''").replace("%", "%%") + "'"


def _where(table: Table, conditions: Sequence[Condition], parameters: Parameters) -> str:
    qualifier = table_name(table.name)
    tests = (
        condition_sql(condition, lambda test: filter_value(test, qualifier, table, parameters))
        for condition in conditions
    )
    return f" where {' and '.join(tests)}"


def _returning(table: Table, names: Sequence[str]) -> str:
    return f" returning {_outputs(table, names)}"


def _outputs(table: Table, names: Sequence[str]) -> str:
    """Only what is asked for, so that a caller needs no right to read the other columns."""
    return ", ".join(column(table_name(table.name), name) for name in names) or "1"


def _count_inserted(sign: str, never: str) -> str:
    counted = f"coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) {sign} 1"
    return f"set_config('pgrst.inserted', ({counted})::text, true) <> '{never}'"
