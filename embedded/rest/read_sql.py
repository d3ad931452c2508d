"""A read plan as SQL: one select with a lateral join for each embedded table, shaped into JSON by Postgres."""

# ruff: noqa: S608  every name goes through identifier(), every value through Parameters.bind()

from __future__ import annotations

from embedded.rest.errors import RestError, not_embedded
from embedded.rest.query import Filter, IsTest, OrderTerm, SelectedField
from embedded.rest.read_plan import Embedding, ReadNode
from embedded.rest.sql import (
    Parameters,
    column,
    condition_sql,
    field_value,
    filter_value,
    identifier,
    limit_offset,
    table_name,
)


def select_sql(node: ReadNode, parameters: Parameters, parent: ReadNode | None = None) -> str:
    """The rows that a node asks for."""
    outputs = [_output(item, node, parameters) for item in node.fields]
    joins = []
    for embed in node.embeds:
        if embed.fields or embed.embeds:
            outputs.append(_embedded_output(embed))
        joins.append(_lateral_join(embed, node, parameters))
    tests = _join_conditions(node, parent)
    tests += [condition_sql(condition, lambda test: _filter(test, node, parameters)) for condition in node.conditions]
    return (
        f"select {', '.join(outputs) or column(node.qualifier, '*')} from {_sources(node)}"
        + "".join(joins)
        + _where(tests)
        + _order_by(node, parameters)
        + limit_offset(node.rows)
    )


def count_sql(node: ReadNode, parameters: Parameters, parent: ReadNode | None = None) -> str:
    """One row for each row that matches, without order and range."""
    tests = _join_conditions(node, parent)
    tests += [
        condition_sql(condition, lambda test: _filter_when_counting(test, node, parameters))
        for condition in node.conditions
    ]
    tests += [
        f"exists ({count_sql(embed, parameters, node)})" for embed in node.embeds if _embedding(embed).request.is_inner
    ]
    return f"select 1 from {_sources(node)}" + _where(tests)


def _embedding(node: ReadNode) -> Embedding:
    assert node.embedding is not None
    return node.embedding


def _output(item: SelectedField, node: ReadNode, parameters: Parameters) -> str:
    value = field_value(item.field, node.qualifier, node.table, parameters)
    if item.cast is not None:
        value = f"cast({value} as {item.cast})"  # the scanner lets nothing but a plain name through
    name = item.alias
    if name is None and (item.field.json_path or (item.cast is not None)):
        keys = [step.key for step in item.field.json_path if isinstance(step.key, str)]
        name = keys[-1] if keys else item.field.name
    return value if name is None else f"{value} as {identifier(name)}"


def _embedded_output(embed: ReadNode) -> str:
    embedding = _embedding(embed)
    alias = identifier(embedding.join_alias)
    if embedding.request.is_spread:
        return f"{alias}.*"
    if embedding.relationship.is_to_one:
        return f"row_to_json({alias}.*) as {identifier(embed.output_name)}"
    return f"coalesce({alias}.{alias}, '[]') as {identifier(embed.output_name)}"


def _lateral_join(embed: ReadNode, parent: ReadNode, parameters: Parameters) -> str:
    embedding = _embedding(embed)
    alias = identifier(embedding.join_alias)
    rows = select_sql(embed, parameters, parent)
    test = "true"
    if not embedding.relationship.is_to_one:
        # One row with all of them as JSON, in a column named like the alias: null when there is none.
        rows = f"select json_agg({alias}) as {alias} from ({rows}) as {alias}"
        if embedding.request.is_inner:
            test = f"{alias} is not null"
    kind = "inner" if embedding.request.is_inner else "left"
    return f" {kind} join lateral ({rows}) as {alias} on {test}"


def _sources(node: ReadNode) -> str:
    junction = node.embedding.relationship.junction if node.embedding else None
    if junction is None:
        return node.source
    return f"{node.source}, {table_name(junction.table)} as {_junction_alias(node)}"


def _junction_alias(node: ReadNode) -> str:
    return identifier(f"{_embedding(node).join_alias}_junction")


def _join_conditions(node: ReadNode, parent: ReadNode | None) -> list[str]:
    if parent is None:
        return []
    relationship = _embedding(node).relationship
    if relationship.junction is None:
        return [
            f"{column(node.qualifier, own)} = {column(parent.qualifier, parents)}"
            for parents, own in relationship.columns
        ]
    junction = _junction_alias(node)
    sides = ((relationship.junction.to_origin, parent), (relationship.junction.to_target, node))
    return [
        f"{column(junction, key_column)} = {column(side.qualifier, target_column)}"
        for key, side in sides
        for key_column, target_column in zip(key.columns, key.target_columns, strict=True)
    ]


def _where(tests: list[str]) -> str:
    return f" where {' and '.join(tests)}" if tests else ""


def _filter(condition: Filter, node: ReadNode, parameters: Parameters) -> str:
    embed = _embed_tested_for_null(condition, node)
    if embed is None:
        return filter_value(condition, node.qualifier, node.table, parameters)
    test = "is distinct from null" if _wants_rows(condition) else "is not distinct from null"
    return f"{identifier(_embedding(embed).join_alias)} {test}"


def _filter_when_counting(condition: Filter, node: ReadNode, parameters: Parameters) -> str:
    embed = _embed_tested_for_null(condition, node)
    if embed is None:
        return filter_value(condition, node.qualifier, node.table, parameters)
    return f"{'' if _wants_rows(condition) else 'not '}exists ({count_sql(embed, parameters, node)})"


def _embed_tested_for_null(condition: Filter, node: ReadNode) -> ReadNode | None:
    """The embedded resource of a filter such as `author=not.is.null`."""
    is_null_test = isinstance(condition.operation, IsTest) and condition.operation.keyword in ("null", "not null")
    return node.embed_named(condition.field.name) if is_null_test and not condition.field.json_path else None


def _wants_rows(condition: Filter) -> bool:
    assert isinstance(condition.operation, IsTest)
    return (condition.operation.keyword == "not null") != condition.is_negated


def _order_by(node: ReadNode, parameters: Parameters) -> str:
    terms = [_order_term(term, node, parameters) for term in node.order]
    return f" order by {', '.join(terms)}" if terms else ""


def _order_term(term: OrderTerm, node: ReadNode, parameters: Parameters) -> str:
    qualifier, table = node.qualifier, node.table
    if term.relation is not None:
        embed = node.embed_named(term.relation)
        if embed is None:
            raise not_embedded(term.relation)
        if not _embedding(embed).relationship.is_to_one:
            raise RestError(
                400,
                "PGRST118",
                f"A related order on '{term.relation}' is not possible",
                details=f"'{node.name.name}' and '{term.relation}' do not form a many-to-one or "
                "one-to-one relationship",
            )
        qualifier, table = identifier(_embedding(embed).join_alias), embed.table
    words = [field_value(term.field, qualifier, table, parameters), term.direction, term.nulls]
    return " ".join(word for word in words if word)
