"""Brings a parsed query and the schema together: a tree of tables to read, each with its filters, order and range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from embedded.rest.errors import RestError, not_embedded
from embedded.rest.query import (
    ALL_ROWS,
    Condition,
    EmbedPath,
    OrderTerm,
    Query,
    RowRange,
    SelectedEmbed,
    SelectedField,
    SelectedItem,
)
from embedded.rest.relationships import Relationship, find_relationship
from embedded.rest.schema_cache import SchemaCache, Table, TableName
from embedded.rest.sql import identifier, table_name


@dataclass(kw_only=True)
class Embedding:
    """How a table hangs on its parent."""

    request: SelectedEmbed
    relationship: Relationship
    #: The alias of the lateral join, without quotes.
    join_alias: str


@dataclass(kw_only=True)
class ReadNode:
    """One table to read."""

    name: TableName
    table: Table | None  #: None: rows of a function that are no table's
    source: str  #: SQL that stands after `from`
    qualifier: str  #: SQL that stands before its columns
    fields: list[SelectedField]
    embeds: list[ReadNode] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    order: tuple[OrderTerm, ...] = ()
    rows: RowRange = ALL_ROWS
    embedding: Embedding | None = None  #: None: the root

    @property
    def output_name(self) -> str:
        assert self.embedding is not None
        return self.embedding.request.name

    def embed_named(self, name: str) -> ReadNode | None:
        by_output_name = (embed for embed in self.embeds if embed.output_name == name)
        by_relation = (embed for embed in self.embeds if embed.embedding and embed.embedding.request.relation == name)
        return next(by_output_name, None) or next(by_relation, None)

    def walk(self) -> Iterator[ReadNode]:
        yield self
        for embed in self.embeds:
            yield from embed.walk()

    def needed_columns(self) -> tuple[str, ...]:
        """The columns of this table that its select, order and joins refer to; `("*",)`: all."""
        names = [item.field.name for item in self.fields]
        names += [term.field.name for term in self.order if term.relation is None]
        for embed in self.embeds:
            assert embed.embedding is not None
            names += embed.embedding.relationship.origin_columns
        return ("*",) if "*" in names else tuple(dict.fromkeys(names))


def plan_read(
    cache: SchemaCache,
    name: TableName,
    query: Query,
    *,
    max_rows: int | None,
    reads_result: bool = False,
) -> ReadNode:
    """The tree of a query on one table.

    `reads_result`: the root's rows come from the statement `pgrst_source` (a write or a function), not the table.
    """
    if reads_result:
        source, qualifier = f"pgrst_source as {identifier(name.name)}", identifier(name.name)
    else:
        source = qualifier = table_name(name)
    root = ReadNode(
        name=name,
        table=cache.tables.get(name),
        source=source,
        qualifier=qualifier,
        fields=_fields(query.select),
    )
    _add_embeds(cache, root, query.select, depth=1)
    for path, condition in query.conditions:
        _node_at(root, path).conditions.append(condition)
    for path, order in query.orders.items():
        _node_at(root, path).order = order
    for path, rows in query.ranges.items():
        _node_at(root, path).rows = rows
    if max_rows is not None:
        for node in root.walk():
            node.rows = node.rows.capped(max_rows)
    return root


def _add_embeds(cache: SchemaCache, parent: ReadNode, items: tuple[SelectedItem, ...], *, depth: int) -> None:
    for item in items:
        if not isinstance(item, SelectedEmbed):
            continue
        relationship = find_relationship(cache, parent.name, item.relation, item.hint)
        if item.is_spread and not relationship.is_to_one:
            raise RestError(
                400,
                "PGRST119",
                f"A spread operation on '{item.relation}' is not possible",
                details=f"'{parent.name.name}' and '{item.relation}' do not form a many-to-one or "
                "one-to-one relationship",
            )
        alias = identifier(f"{relationship.target.name}_{depth}")
        node = ReadNode(
            name=relationship.target,
            table=cache.tables.get(relationship.target),
            source=f"{table_name(relationship.target)} as {alias}",
            qualifier=alias,
            fields=_fields(item.items),
            embedding=Embedding(
                request=item, relationship=relationship, join_alias=f"pgrst_{depth}_{len(parent.embeds)}"
            ),
        )
        parent.embeds.append(node)
        _add_embeds(cache, node, item.items, depth=depth + 1)


def _fields(items: tuple[SelectedItem, ...]) -> list[SelectedField]:
    return [item for item in items if isinstance(item, SelectedField)]


def _node_at(root: ReadNode, path: EmbedPath) -> ReadNode:
    node = root
    for name in path:
        embed = node.embed_named(name)
        if embed is None:
            raise not_embedded(name)
        node = embed
    return node
