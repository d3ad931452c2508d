"""One `postgres_changes` subscription of a channel: what it asks for, and whether it may have it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from embedded.database import Pool
from embedded.realtime.filters import (
    IS_KEYWORDS,
    MAX_IN_VALUES,
    Filter,
    FilterError,
    matching,
    parse_filters,
    printed_values,
)
from embedded.realtime.pgoutput import Action
from embedded.realtime.tables import Column, Table, load_table

CHANGES_PUBLICATION = "supabase_realtime"

_PUBLISHED_TABLES = """
select c.oid, p.schemaname, p.tablename
from pg_catalog.pg_publication_tables p
join pg_catalog.pg_namespace n on n.nspname = p.schemaname
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
where p.pubname = %(publication)s
  and %(schema)s::text in ('*', p.schemaname) and %(table)s::text in ('*', p.tablename)
"""


class SubscriptionError(Exception):
    """Nothing will come of the subscription; the message is Realtime's own."""

    def __init__(self, message: str, *, may_change: bool) -> None:
        super().__init__(message)
        self.may_change = may_change  #: worth another try: the table may be published later


class Subscription:
    def __init__(self, parameters: Mapping[str, Any]) -> None:
        """Raises `SubscriptionError` when the parameters can never be right."""
        event = str(parameters.get("event", "*")).upper()
        self.action = Action(event) if event in Action.__members__ else None  #: None: all of them
        schema, table = parameters.get("schema"), parameters.get("table")
        if schema is None and table is None:
            raise SubscriptionError(
                "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
                + json.dumps(dict(parameters)),
                may_change=False,
            )
        self.schema = "public" if schema is None else str(schema)
        self.table = "*" if table is None else str(table)
        try:
            self.filters = parse_filters(parameters.get("filter"))
        except FilterError as error:
            raise SubscriptionError(str(error), may_change=False) from error
        #: The only columns wanted, beside the primary key; None: all.
        self.selected = _selected_columns(parameters.get("select"), self.schema, self.table)
        self.id = subscription_id(parameters)
        #: For `eq`, `neq` and `in`: the values as Postgres prints them, by filter and type.
        self._printed: dict[tuple[Filter, str], frozenset[str]] = {}

    def wants(self, action: Action, schema: str, table: str) -> bool:
        return self.action in (None, action) and self.schema in ("*", schema) and self.table in ("*", table)

    async def check(self, pool: Pool, role: str) -> None:
        """Make sure that the tables are published and that every filter works on them for `role`.

        Raises:
            SubscriptionError: They are not, or one does not.
        """
        async with pool.connection() as connection:
            cursor = await connection.execute(
                _PUBLISHED_TABLES,
                {"publication": CHANGES_PUBLICATION, "schema": self.schema, "table": self.table},
            )
            published = await cursor.fetchall()
        if not published:
            raise SubscriptionError(
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the "
                f"given connect parameters: [{self._described()}]",
                may_change=True,
            )
        for oid, schema, name in published:
            table = await load_table(pool, oid=oid, schema=schema, name=name)
            try:
                await self._check_table(pool, table, role)
            except (FilterError, psycopg.Error) as error:
                raise SubscriptionError(
                    "Unable to subscribe to changes with given parameters. An exception happened so please check "
                    f"your connect parameters: [{self._described()}]. Exception: {str(error).splitlines()[0]}",
                    may_change=False,
                ) from error

    async def _check_table(self, pool: Pool, table: Table, role: str) -> None:
        readable = await table.readable_columns(pool, role)
        for condition in self.filters:
            if condition.column not in readable:
                raise FilterError(f"invalid column for filter {condition.column}")
            await self._check_filter(pool, condition, table.columns[condition.column])
        for name in self.selected or ():
            if name not in readable:
                raise FilterError(f"invalid column for select {name}")

    async def _check_filter(self, pool: Pool, condition: Filter, column: Column) -> None:
        if condition.operator in ("eq", "neq", "in"):
            values = await printed_values(pool, condition, column.type_sql)
            if len(values) > MAX_IN_VALUES:
                raise FilterError(f"too many values for `in` filter. Maximum {MAX_IN_VALUES}")
            texts = frozenset(value for value in values if value is not None)
            if len(texts) == len(set(values)):
                self._printed[condition, column.type_sql] = texts
        elif condition.operator == "is" and condition.value not in IS_KEYWORDS:
            raise FilterError("invalid value for is filter: must be null, true, false, or unknown")
        # Postgres itself knows best whether the operator works on the type: compare the value with itself once.
        probe = None if condition.operator in ("in", "is") else condition.value
        await matching(pool, condition, column.type_sql, [probe])

    def let_through_in_process(self, condition: Filter, column: Column, value: str | None) -> bool | None:
        """Whether a filter lets a column's value through, when no query is needed to say so; None when one is."""
        texts = self._printed.get((condition, column.type_sql)) if column.text_comparable else None
        if texts is None:
            return None
        if value is None:  # null equals nothing and differs from nothing
            return False
        return (value in texts) != (condition.negated != (condition.operator == "neq"))

    def _described(self) -> str:
        event = "*" if self.action is None else self.action.value
        filters = ", ".join(str(condition) for condition in self.filters)
        return f"event: {event}, schema: {self.schema}, table: {self.table}, filters: [{filters}]"


def subscription_id(parameters: Mapping[str, Any]) -> int:
    """The same for equal parameters; never 0, which realtime-py takes for "none"."""
    return zlib.crc32(json.dumps(parameters, sort_keys=True).encode()) or 1


def _selected_columns(select: object, schema: str, table: str) -> tuple[str, ...] | None:
    if select is None or select == []:
        return None
    if not isinstance(select, Sequence) or isinstance(select, str):
        raise SubscriptionError(
            'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]',
            may_change=False,
        )
    if "*" in (schema, table):
        raise SubscriptionError(
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.",
            may_change=False,
        )
    return tuple(str(column) for column in select)
