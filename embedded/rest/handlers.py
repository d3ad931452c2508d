"""One request: its query string, headers and body into one statement, and the result into an answer."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, quote

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response

from embedded.database import Pool, acting_as
from embedded.identity import Claims
from embedded.rest.call_sql import call_with_arguments, call_with_body, find_function
from embedded.rest.errors import (
    RestError,
    invalid_body,
    invalid_range,
    not_implemented,
    not_one_row,
    where_clause_required,
)
from embedded.rest.parse_query import parse_query
from embedded.rest.query import ALL_ROWS, Query
from embedded.rest.read_plan import ReadNode, plan_read
from embedded.rest.read_sql import count_sql, select_sql
from embedded.rest.request import (
    invalid_preferences,
    read_media_type,
    read_preferences,
    read_range,
    read_schema,
)
from embedded.rest.schema_cache import Function, SchemaCache, Table, TableName
from embedded.rest.sql import Parameters, identifier
from embedded.rest.statements import Result, execute, json_of_rows, planned_rows, whole_statement
from embedded.rest.write_sql import Payload, delete_sql, insert_sql, read_payload, update_sql

MAX_ROWS = 1000  # of every answer and every embedded list, as in a hosted project

#: SQL for the body of an answer without one.
_NO_BODY = "''"


class Handler:
    """Answers one request on a table or a function."""

    def __init__(self, request: Request, claims: Claims, cache: SchemaCache, pool: Pool) -> None:
        self.request = request
        self.cache = cache
        self.schema = read_schema(request.method, request.headers)
        self._claims = claims
        self._pool = pool
        self._preferences = read_preferences(",".join(request.headers.getlist("prefer")))
        self._media_type = read_media_type(request.headers.get("accept", ""))
        self._parameters = Parameters()

    # -- tables

    async def read(self, table: Table) -> Response:
        query = self._with_range_header(self._parse_query())
        plan = plan_read(self.cache, table.name, query, max_rows=MAX_ROWS)
        is_head = self.request.method == "HEAD"
        async with self._transaction(read_only=True) as connection:
            result = await self._execute(
                connection,
                select_sql(plan, self._parameters),
                "select * from pgrst_source",
                _NO_BODY if is_head else self._json(),
                counted=plan,
            )
            self._demand_one_row(result)
        return self._rows_response(result, query, self._preferences.applied("count"), has_body=not is_head)

    async def insert(self, table: Table) -> Response:
        query = self._parse_query()
        payload = await self._read_payload(table, query)
        conflict_columns = query.on_conflict or table.primary_key
        resolution = self._preferences.resolution

        def statement(returning: tuple[str, ...]) -> str:
            return insert_sql(
                table,
                payload,
                self._parameters,
                returning=returning,
                resolution=resolution,
                conflict_columns=conflict_columns,
                fills_defaults=self._preferences.fills_defaults,
            )

        result = await self._write(table, query, statement)
        merged_only = resolution == "merge-duplicates" and result.inserted is not None and result.inserted <= 0
        headers = self._preferences.applied("return", "count", "missing", *(["resolution"] if conflict_columns else []))
        if result.location:
            headers["Location"] = f"/{quote(table.name.name)}?" + "&".join(
                "=".join(map(quote, pair.split("=", 1))) for pair in result.location
            )
        return self._write_response(result, 200 if merged_only else 201, headers, first_row=None)

    async def update(self, table: Table) -> Response:
        query = self._parse_query()
        _refuse_range(query)
        payload = await self._read_payload(table, query)

        def statement(returning: tuple[str, ...]) -> str:
            return update_sql(
                table,
                payload,
                query.root_conditions,
                self._parameters,
                returning=returning,
                fills_defaults=self._preferences.fills_defaults,
            )

        result = await self._write(table, query, statement)
        headers = self._preferences.applied("return", "count", "missing", "max-affected")
        return self._write_response(result, 200 if self._wants_rows else 204, headers, first_row=0)

    async def delete(self, table: Table) -> Response:
        query = self._parse_query()
        _refuse_range(query)

        def statement(returning: tuple[str, ...]) -> str:
            return delete_sql(table, query.root_conditions, self._parameters, returning=returning)

        result = await self._write(table, query, statement)
        headers = self._preferences.applied("return", "count", "max-affected")
        return self._write_response(result, 200 if self._wants_rows else 204, headers, first_row=None)

    async def _write(self, table: Table, query: Query, statement: Callable[[tuple[str, ...]], str]) -> Result:
        """Run a write; `statement` makes its SQL, given the columns that it must return."""
        if (offence := self.cache.guard.offence_of_write(table.name.name)) is not None:
            raise where_clause_required(offence)
        of_result = dataclasses.replace(
            query, conditions=tuple((path, condition) for path, condition in query.conditions if path)
        )
        plan = plan_read(self.cache, table.name, of_result, max_rows=None, reads_result=True)
        location = "null::text[]"
        if self._wants_rows:
            source = statement(plan.needed_columns())
            rows, body = select_sql(plan, self._parameters), self._json()
        elif self._preferences.representation == "headers-only" and table.primary_key:
            source = statement(table.primary_key)
            rows, body = "select * from pgrst_source", _NO_BODY
            location = _location_of(table)
        else:
            source = statement(())
            rows, body = "select * from pgrst_source", _NO_BODY
        async with self._transaction(read_only=False) as connection:
            result = await self._execute(connection, source, rows, body, location=location)
            self._demand_one_row(result)
            self._demand_few_rows(result)
        return result

    # -- functions

    async def call(self, name: str) -> Response:
        is_post = self.request.method == "POST"
        query = self._parse_query(takes_arguments=not is_post)
        query = query if is_post else self._with_range_header(query)
        body, argument_names = "", tuple(name for name, _ in query.arguments)
        if is_post:
            body, argument_names = await self._read_arguments(query)
        function = find_function(self.cache, self.schema, name, argument_names, has_json_body=is_post)
        if (offence := self.cache.guard.offence_of_function(function.oid)) is not None:
            raise where_clause_required(offence)
        if self._preferences.max_affected is not None and not function.returns_set:
            raise RestError(
                400,
                "PGRST128",
                "Function must return SETOF or TABLE when max-affected preference is used with handling=strict",
            )
        if is_post:
            call = call_with_body(function, body, argument_names, self._parameters)
        else:
            call = call_with_arguments(function, query.arguments, self._parameters)
        return await self._answer_call(
            function, call, query, read_only=not is_post or function.volatility != "volatile"
        )

    async def _answer_call(self, function: Function, call: str, query: Query, *, read_only: bool) -> Response:
        rows_name = function.row_table or TableName(function.schema, function.name)
        plan = plan_read(self.cache, rows_name, query, max_rows=MAX_ROWS, reads_result=True)
        has_body = self.request.method != "HEAD" and function.returns != "void"
        async with self._transaction(read_only=read_only) as connection:
            result = await self._execute(
                connection,
                call,
                select_sql(plan, self._parameters),
                self._json_of_call(function) if has_body else _NO_BODY,
                counted=plan,
            )
            self._demand_one_row(result)
            self._demand_few_rows(result)
        headers = self._preferences.applied("count", "max-affected")
        if function.returns == "void":
            return self._respond(result, 204, headers | _content_range(0, result.row_count, result.total), "")
        return self._rows_response(result, query, headers, has_body=has_body)

    def _json_of_call(self, function: Function) -> str:
        return json_of_rows(
            self._media_type,
            column="pgrst_scalar" if function.returns == "scalar" else "",
            is_one=self._media_type.is_single or not function.returns_set,
        )

    async def _read_arguments(self, query: Query) -> tuple[str, tuple[str, ...]]:
        """The body of a call as text, and the names of the arguments in it."""
        text = await self._read_json_text() or "{}"
        document = _decode(text)
        names = tuple(document) if isinstance(document, dict) else ()
        return text, query.columns or names

    # -- what all have in common

    @property
    def _wants_rows(self) -> bool:
        return self._preferences.representation == "representation"

    def _parse_query(self, *, takes_arguments: bool = False) -> Query:
        parameters = parse_qsl(self.request.url.query, keep_blank_values=True)
        return parse_query(parameters, takes_arguments=takes_arguments)

    def _with_range_header(self, query: Query) -> Query:
        asked = query.ranges.get((), ALL_ROWS)
        if self.request.method == "GET":
            asked = asked.within(read_range(self.request.headers.get("range")))
        return dataclasses.replace(query, ranges=query.ranges | {(): asked})

    async def _read_payload(self, table: Table, query: Query) -> Payload:
        text = await self._read_json_text()
        return read_payload(text, _decode(text), query.columns, table)

    async def _read_json_text(self) -> str:
        content_type = self.request.headers.get("content-type", "application/json")
        name = content_type.partition(";")[0].strip().lower()
        if name not in ("application/json", "application/vnd.pgrst.array+json", "application/vnd.pgrst.object+json"):
            raise invalid_body(f"Content-Type not acceptable: {name}")
        try:
            return (await self.request.body()).decode()
        except UnicodeDecodeError:
            raise invalid_body("Empty or invalid json") from None

    def _json(self) -> str:
        return json_of_rows(self._media_type, is_one=self._media_type.is_single)

    @asynccontextmanager
    async def _transaction(self, *, read_only: bool) -> AsyncIterator[AsyncConnection[Any]]:
        headers = self.request.headers
        settings = {
            "search_path": f"{_plain_identifier(self.schema)}, public, extensions",
            "request.method": self.request.method,
            "request.path": "/" + self.request.url.path.partition("/rest/v1/")[2],
            "request.headers": json.dumps({name: value for name, value in headers.items() if name != "cookie"}),
            "request.cookies": json.dumps(self.request.cookies),
        }
        async with acting_as(self._pool, self._claims, settings=settings, read_only=read_only) as connection:
            if self._preferences.timezone is not None:
                await self._set_timezone(connection, self._preferences.timezone)
            yield connection

    async def _set_timezone(self, connection: AsyncConnection[Any], timezone: str) -> None:
        cursor = await connection.execute(
            "select set_config('timezone', name, true) from pg_timezone_names where name = %s", (timezone,)
        )
        if cursor.rowcount == 0 and self._preferences.is_strict:
            raise invalid_preferences([f"timezone={timezone}"])

    async def _execute(
        self,
        connection: AsyncConnection[Any],
        source: str,
        rows: str,
        body: str,
        *,
        counted: ReadNode | None = None,
        location: str = "null::text[]",
    ) -> Result:
        count = self._preferences.count
        counting = count_sql(counted, self._parameters) if counted is not None and count is not None else None
        exact = None
        if counting is not None and count != "planned":
            exact = counting if count == "exact" else f"{counting} limit {MAX_ROWS + 1}"
        statement = whole_statement(source, rows, body, count=exact, location=location)
        result = await execute(connection, statement, self._parameters)
        if counting is not None and (count == "planned" or (count == "estimated" and (result.total or 0) > MAX_ROWS)):
            with_source = (
                counting
                if counted is None or "pgrst_source" not in counted.source
                else (f"with pgrst_source as ({source}) {counting}")
            )
            planned = await planned_rows(connection, with_source, self._parameters)
            result = dataclasses.replace(result, total=max(planned, result.total or 0))
        if counted is None and count is not None:
            result = dataclasses.replace(result, total=result.row_count)
        return result

    def _demand_one_row(self, result: Result) -> None:
        """Inside the transaction, so that a write of none or several rows is undone."""
        if self._media_type.is_single and result.row_count != 1:
            raise not_one_row(result.row_count)

    def _demand_few_rows(self, result: Result) -> None:
        limit = self._preferences.max_affected
        if limit is not None and result.row_count > limit:
            raise RestError(
                400,
                "PGRST124",
                "Query result exceeds max-affected preference constraint",
                details=f"The query affects {result.row_count} rows",
            )

    def _rows_response(self, result: Result, query: Query, headers: dict[str, str], *, has_body: bool) -> Response:
        offset = query.ranges.get((), ALL_ROWS).offset
        status = 200
        if result.total is not None:
            if offset > result.total:
                raise invalid_range(f"An offset of {offset} was requested, but there are only {result.total} rows.")
            status = 206 if result.row_count < result.total else 200
        headers = headers | _content_range(offset, result.row_count, result.total)
        return self._respond(result, status, headers | self._content_type(), result.body if has_body else "")

    def _write_response(
        self, result: Result, status: int, headers: dict[str, str], *, first_row: int | None
    ) -> Response:
        total = result.row_count if self._preferences.count is not None else None
        headers = headers | _content_range(first_row, result.row_count, total)
        if self._wants_rows:
            return self._respond(result, status, headers | self._content_type(), result.body)
        return self._respond(result, status, headers, "")

    def _content_type(self) -> dict[str, str]:
        profile = {"Content-Profile": self.schema} if "accept-profile" in self.request.headers else {}
        return {"Content-Type": f"{self._media_type.name}; charset=utf-8"} | profile

    def _respond(self, result: Result, status: int, headers: dict[str, str], body: str) -> Response:
        if result.response_status is not None:
            if not re.fullmatch(r"[1-5][0-9][0-9]", result.response_status):
                raise RestError(500, "PGRST112", "response.status guc must be a valid status code")
            status = int(result.response_status)
        response = Response(body if status != 204 else "", status, headers=headers)
        for name, value in _headers_of_function(result.response_headers):
            response.headers[name] = value
        return response


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise invalid_body("Empty or invalid json") from None


def _refuse_range(query: Query) -> None:
    """PostgREST writes all rows that match, whatever the limit: better to say so than to delete too much."""
    if () in query.ranges:
        raise not_implemented("limit and offset cannot be used with UPDATE and DELETE")


def _content_range(first: int | None, count: int, total: int | None) -> dict[str, str]:
    rows = f"{first}-{first + count - 1}" if first is not None and count and total != 0 else "*"
    return {"Content-Range": f"{rows}/{'*' if total is None else total}"}


def _headers_of_function(text: str | None) -> list[tuple[str, str]]:
    """`[{"Set-Cookie": "a=b"}, ...]`, as functions leave them in the setting `response.headers`."""
    if text is None:
        return []
    try:
        pairs = [pair for entry in json.loads(text) for pair in entry.items()]
        if not all(isinstance(value, str) for _, value in pairs):
            raise ValueError
    except (ValueError, AttributeError, TypeError):
        raise RestError(
            500,
            "PGRST111",
            "response.headers guc must be a JSON array composed of objects with a single key and a string value",
        ) from None
    return pairs


def _location_of(table: Table) -> str:
    """SQL for the one inserted row's primary key as `column=eq.value`; null when there are several rows."""
    pairs = ", ".join(
        f"'{name.replace(chr(39), chr(39) * 2)}=eq.' || min(pgrst_rows.{identifier(name)}::text)"
        for name in table.primary_key
    )
    return f"case when count(*) = 1 then array[{pairs}] end"


def _plain_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
