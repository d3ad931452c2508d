"""The one statement of a request: the rows, their JSON and their counts come back in a single round trip."""

# ruff: noqa: S608  made of parts that are safe by themselves

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from embedded.rest.request import MediaType
from embedded.rest.sql import Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the database made of a request."""

    body: str
    row_count: int
    #: Rows that match without the range; None: not counted.
    total: int | None
    #: Set by functions through the settings `response.headers` (JSON) and `response.status`.
    response_headers: str | None
    response_status: str | None
    #: Rows that an upsert made anew; None: it was none.
    inserted: int | None
    #: The first row's primary key as query parameters, for the header `Location`.
    location: list[str] | None


def json_of_rows(media_type: MediaType, *, column: str = "", is_one: bool = False) -> str:
    """SQL for the body, over rows named `pgrst_rows`: all of them, or with `is_one` the first.

    `column`: only that one, as with functions that return a bare value.
    """
    rows = f"json_agg(pgrst_rows{f'.{column}' if column else ''})"
    if media_type.strips_nulls:
        rows = f"json_strip_nulls({rows})"
    return f"coalesce({rows}->0, 'null')::text" if is_one else f"coalesce({rows}, '[]')::text"


def whole_statement(
    source: str, rows: str, body: str, *, count: str | None = None, location: str = "null::text[]"
) -> str:
    """`source` is the CTE `pgrst_source`; `rows` selects from it what `body` makes JSON of; `count` counts all.

    Rows are counted as whole values: with `count(*)` Postgres would not even call a stable function whose result
    is not looked at.
    """
    counting = f", pgrst_count as ({count})" if count else ""
    total = "(select count(*) from pgrst_count)" if count else "null::bigint"
    return (
        f"with pgrst_source as ({source}){counting} "
        f"select {body} as body, count(pgrst_rows) as row_count, {total} as total, "
        f"nullif(current_setting('response.headers', true), '') as response_headers, "
        f"nullif(current_setting('response.status', true), '') as response_status, "
        f"nullif(current_setting('pgrst.inserted', true), '')::int as inserted, "
        f"{location} as location "
        f"from ({rows}) pgrst_rows"
    )


async def execute(connection: AsyncConnection[Any], statement: str, parameters: Parameters) -> Result:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement.encode(), parameters.values)
        row = await cursor.fetchone()
    assert row is not None
    return Result(**row)


async def planned_rows(connection: AsyncConnection[Any], query: str, parameters: Parameters) -> int:
    """How many rows the planner expects of a query."""
    cursor = await connection.execute(f"explain (format json) {query}".encode(), parameters.values)
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0][0]["Plan"]["Plan Rows"])
