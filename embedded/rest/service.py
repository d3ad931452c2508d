"""The REST service: `/rest/v1/<table>` and `/rest/v1/rpc/<function>`."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
from collections.abc import Awaitable, Callable

import psycopg
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from embedded.database import POOL_WAIT_S, dsn_as, open_pool
from embedded.identity import Claims, Identity, InvalidTokenError, KeyRefusedError
from embedded.rest.errors import (
    RestError,
    error_of_postgres,
    error_of_token,
    unknown_table,
    unsupported_method,
)
from embedded.rest.handlers import Handler
from embedded.rest.schema_cache import SchemaCache, Table, TableName, load_schema_cache

logger = logging.getLogger(__name__)

POOL_SIZE = 10  # what PostgREST has by default
RELOAD_RETRY_S = 1.0
METHODS = ["GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"]


class RestService:
    """Logs in as `authenticator`, as PostgREST does, and acts as the role of each request's token."""

    def __init__(self, dsn: str, identity: Identity, *, pool_wait_s: float = POOL_WAIT_S) -> None:
        self._dsn = dsn_as(dsn, "authenticator")
        self._identity = identity
        self._pool = open_pool(self._dsn, max_size=POOL_SIZE, wait_s=pool_wait_s)
        self._cache: SchemaCache | None = None
        self._cache_is_stale = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/", self._answer(self._root), methods=METHODS),
            Route("/rpc/{function}", self._answer(self._call), methods=METHODS),
            Route("/{table}", self._answer(self._table), methods=METHODS),
            Route("/{path:path}", self._answer(self._unknown_path), methods=METHODS),
        ]

    async def start(self) -> None:
        await self._pool.open()
        async with self._pool.connection() as connection:
            self._cache = await load_schema_cache(connection)
        self._tasks = [
            asyncio.create_task(self._listen(), name="rest-listen"),
            asyncio.create_task(self._reload(), name="rest-reload"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()

    # -- requests

    def _answer(self, respond: Callable[[Handler], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            claims = None
            try:
                claims = self._identity.claims_of_request(request.headers, request.query_params)
                if self._cache is None:
                    raise RestError(503, "PGRST002", "Could not query the database for the schema cache. Retrying.")
                return await respond(Handler(request, claims, self._cache, self._pool))
            except KeyRefusedError as error:
                return JSONResponse(error.body, error.status)
            except InvalidTokenError as error:
                return error_of_token(error).response()
            except RestError as error:
                return error.response()
            except RecursionError:
                return RestError(400, "PGRST100", "The query is nested too deeply").response()
            except PoolTimeout:
                message = "Timed out acquiring connection from connection pool."
                return RestError(504, "PGRST003", message).response()
            except psycopg.Error as error:
                return error_of_postgres(error, is_anonymous=_is_anonymous(claims)).response()

        return endpoint

    async def _table(self, handler: Handler) -> Response:
        table = self._find_table(handler)
        method = handler.request.method
        if method in ("GET", "HEAD"):
            return await handler.read(table)
        if method == "POST":
            return await handler.insert(table)
        if method == "PATCH":
            return await handler.update(table)
        if method == "DELETE":
            return await handler.delete(table)
        if method == "OPTIONS":
            return Response(headers={"Allow": "OPTIONS,GET,HEAD,POST,PATCH,DELETE"})
        raise unsupported_method(method)

    async def _call(self, handler: Handler) -> Response:
        method = handler.request.method
        if method in ("GET", "HEAD", "POST"):
            return await handler.call(handler.request.path_params["function"])
        if method == "OPTIONS":
            return Response(headers={"Allow": "OPTIONS,GET,HEAD,POST"})
        raise RestError(405, "PGRST101", f"Cannot use the {method} method on RPC")

    async def _root(self, handler: Handler) -> Response:
        raise RestError(404, "PGRST126", "Root endpoint metadata is disabled")

    async def _unknown_path(self, handler: Handler) -> Response:
        raise RestError(404, "PGRST125", "Invalid path specified in request URL")

    def _find_table(self, handler: Handler) -> Table:
        wanted = TableName(handler.schema, handler.request.path_params["table"])
        table = handler.cache.tables.get(wanted)
        if table is None:
            names = [name for schema, name in handler.cache.tables if schema == wanted.schema]
            close = difflib.get_close_matches(wanted.name, names, n=1, cutoff=0.75)
            hint = f"Perhaps you meant the table '{wanted.schema}.{close[0]}'" if close else None
            raise unknown_table(wanted.schema, wanted.name, hint)
        return table

    # -- the schema cache

    async def _listen(self) -> None:
        """Mark the cache stale on `notify pgrst`, which every DDL statement sends."""
        while True:
            with contextlib.suppress(psycopg.Error):
                async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    await connection.execute("listen pgrst")
                    self._cache_is_stale.set()  # what changed while nobody listened
                    async for notification in connection.notifies():
                        if notification.payload in ("", "reload schema"):
                            self._cache_is_stale.set()
            await asyncio.sleep(RELOAD_RETRY_S)

    async def _reload(self) -> None:
        while True:
            await self._cache_is_stale.wait()
            self._cache_is_stale.clear()
            try:
                async with self._pool.connection() as connection:
                    self._cache = await load_schema_cache(connection)
            except (psycopg.Error, PoolTimeout):
                logger.warning("rest.schema_reload_failed", exc_info=True)
                self._cache_is_stale.set()
                await asyncio.sleep(RELOAD_RETRY_S)


def _is_anonymous(claims: Claims | None) -> bool:
    return claims is None or claims.role == "anon"
