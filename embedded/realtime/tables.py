"""What Realtime must know of a table before it may tell anybody about its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from embedded.database import Pool, acting_as
from embedded.identity import Claims
from embedded.realtime.frames import to_json
from embedded.realtime.pgoutput import Relation, Row

#: Types of which two values are equal exactly when they are printed alike.
_TEXT_COMPARABLE_TYPES = ["uuid", "text", "varchar", "name", "int2", "int4", "int8", "oid", "bool", "date"]

_COLUMNS = """
select a.attname, t.typname, format_type(a.atttypid, -1),
       coalesce(a.attnum = any (i.indkey), false) as in_key,
       (t.typtype = 'e' or (t.typnamespace = 'pg_catalog'::regnamespace and t.typname = any (%(comparable)s)))
         and coalesce(l.collisdeterministic, true) as text_comparable,
       c.relrowsecurity
from pg_catalog.pg_attribute a
join pg_catalog.pg_class c on c.oid = a.attrelid
join pg_catalog.pg_type t on t.oid = a.atttypid
left join pg_catalog.pg_collation l on l.oid = a.attcollation
left join pg_catalog.pg_index i on i.indrelid = c.oid and i.indisprimary
where c.oid = %(table)s and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type_name: str  #: `pg_type.typname`, as clients are told: int4, _text
    type_sql: str  #: as SQL writes it: integer, text[]
    in_key: bool  #: part of the primary key
    text_comparable: bool  #: equal values are printed alike, so equality needs no query


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    oid: int
    schema: str
    name: str
    columns: Mapping[str, Column]
    has_policies: bool  #: row level security is on
    #: Columns that a role may select, for the roles asked for so far.
    _readable: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def key(self) -> list[Column]:
        """The primary key; empty when the table has none."""
        return [column for column in self.columns.values() if column.in_key]

    async def readable_columns(self, pool: Pool, role: str) -> frozenset[str]:
        """The columns that `role` may select; none when there is no such role."""
        if role not in self._readable:
            async with pool.connection() as connection:
                try:
                    cursor = await connection.execute(
                        "select name from unnest(%s::text[]) as name"
                        " where has_column_privilege(%s, %s, name, 'select')",
                        [list(self.columns), role, self.oid],
                    )
                    self._readable[role] = frozenset(name for (name,) in await cursor.fetchall())
                except psycopg.errors.UndefinedObject:
                    self._readable[role] = frozenset()
        return self._readable[role]

    async def visible_rows(self, pool: Pool, claims: Claims, rows: Sequence[Row]) -> list[bool]:
        """Which of these rows a SELECT of their keys with these claims finds now.

        Raises:
            psycopg.Error: A policy failed.
        """
        query = sql.SQL(
            "select exists (select from {table} as t where {same_key})"
            " from unnest({arrays}) with ordinality as given ({names}, position) order by position"
        ).format(
            table=sql.Identifier(self.schema, self.name),
            same_key=sql.SQL(" and ").join(
                sql.SQL("t.{} = given.{}::{}").format(
                    sql.Identifier(column.name),
                    sql.Identifier(f"k{number}"),
                    sql.SQL(column.type_sql),
                )
                for number, column in enumerate(self.key)
            ),
            arrays=sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(self.key)),
            names=sql.SQL(", ").join(sql.Identifier(f"k{number}") for number in range(len(self.key))),
        )
        values = [[row.get(column.name) for row in rows] for column in self.key]
        async with acting_as(pool, claims, read_only=True) as connection:
            cursor = await connection.execute(query, values)
            return [found for (found,) in await cursor.fetchall()]

    async def as_json(self, pool: Pool, rows: Sequence[Row]) -> list[dict[str, str]]:
        """The values of rows as JSON text, as `to_jsonb` writes them."""
        if not rows:
            return []
        columns = list(self.columns.values())
        query = sql.SQL(
            "select {values} from unnest({arrays}) with ordinality as given ({names}, position) order by position"
        ).format(
            values=sql.SQL(", ").join(
                sql.SQL("to_jsonb(given.{}::{})::text").format(
                    sql.Identifier(f"c{number}"),
                    sql.SQL(column.type_sql),
                )
                for number, column in enumerate(columns)
            ),
            arrays=sql.SQL(", ").join([sql.SQL("%s::text[]")] * len(columns)),
            names=sql.SQL(", ").join(sql.Identifier(f"c{number}") for number in range(len(columns))),
        )
        async with pool.connection() as connection:
            cursor = await connection.execute(query, [[row.get(column.name) for row in rows] for column in columns])
            converted = await cursor.fetchall()
        return [
            {
                column.name: "null" if value is None else value
                for column, value in zip(columns, values, strict=True)
                if column.name in row
            }
            for row, values in zip(rows, converted, strict=True)
        ]

    def columns_json(self, names: Iterable[str]) -> str:
        """The `columns` of a message."""
        wanted = set(names)
        return to_json(
            [
                {"name": column.name, "type": column.type_name}
                for column in self.columns.values()
                if column.name in wanted
            ]
        )


async def load_table(pool: Pool, *, oid: int, schema: str, name: str) -> Table:
    async with pool.connection() as connection:
        cursor = await connection.execute(_COLUMNS, {"table": oid, "comparable": _TEXT_COMPARABLE_TYPES})
        rows = await cursor.fetchall()
    return Table(
        oid=oid,
        schema=schema,
        name=name,
        columns={
            column: Column(
                name=column,
                type_name=type_name,
                type_sql=type_sql,
                in_key=in_key,
                text_comparable=text_comparable,
            )
            for column, type_name, type_sql, in_key, text_comparable, _ in rows
        },
        has_policies=any(row[-1] for row in rows),
    )


class TableCache:
    """Tables by the relation objects of the stream, which are new ones whenever a table has changed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tables: dict[int, tuple[Relation, Table]] = {}

    async def table_of(self, relation: Relation) -> Table:
        known = self._tables.get(relation.oid)
        if known is not None and known[0] is relation:
            return known[1]
        table = await load_table(self._pool, oid=relation.oid, schema=relation.schema, name=relation.table)
        self._tables[relation.oid] = (relation, table)
        return table
