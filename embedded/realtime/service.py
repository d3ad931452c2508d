"""The Realtime service: everything under `/realtime/v1`."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import psycopg
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from embedded.database import open_pool
from embedded.identity import Identity, InvalidTokenError
from embedded.realtime.broadcasts import (
    MESSAGES_PUBLICATION,
    BroadcastEndpoints,
    delete_old_messages,
    is_messages,
    send_from_database,
)
from embedded.realtime.changes import ChangeAnnouncer
from embedded.realtime.channels import ChannelRegistry
from embedded.realtime.connection import Connection
from embedded.realtime.frames import Version
from embedded.realtime.pgoutput import RowChange
from embedded.realtime.replication import StreamLostError, open_stream
from embedded.realtime.session import Session, SessionServices
from embedded.realtime.subscriptions import CHANGES_PUBLICATION

logger = logging.getLogger(__name__)

SESSION_POOL_SIZE = 4
SESSION_POOL_WAIT_S = 3.0  # a join must be answered within the clients' 10 seconds
#: The stream of changes has connections of its own, so that a crowd of joins cannot hold it up, and patience: giving
#: up means that everybody has to join anew.
STREAM_POOL_SIZE = 4  # row level security is asked for several claims at once
STREAM_POOL_WAIT_S = 60.0
RECONNECT_S = 0.5
RETENTION_INTERVAL_S = 3600.0
#: On hosted projects changes flow a while after SUBSCRIBED, up to seconds. So do they here: code that does not wait
#: for the `system` message shall fail on a developer's machine already.
READY_DELAY_S = 0.2


class RealtimeService:
    """`dsn` logs in as the superuser, which may replicate and act as every role."""

    def __init__(self, dsn: str, identity: Identity, *, ready_delay_s: float = READY_DELAY_S) -> None:
        self._dsn = dsn
        self._identity = identity
        self._pool = open_pool(dsn, max_size=SESSION_POOL_SIZE, wait_s=SESSION_POOL_WAIT_S)
        self._stream_pool = open_pool(dsn, max_size=STREAM_POOL_SIZE, wait_s=STREAM_POOL_WAIT_S)
        self._registry = ChannelRegistry()
        self._streaming = asyncio.Event()
        self._announcer = ChangeAnnouncer(self._stream_pool, self._registry)
        self._services = SessionServices(
            pool=self._pool,
            identity=identity,
            registry=self._registry,
            streaming=self._streaming,
            ready_delay_s=ready_delay_s,
        )
        self._tasks: list[asyncio.Task[None]] = []

    def routes(self) -> list[BaseRoute]:
        broadcast = BroadcastEndpoints(self._pool, self._identity, self._registry)
        return [
            WebSocketRoute("/websocket", self._websocket),
            Route("/api/broadcast", broadcast.send_batch, methods=["POST"]),
            Route("/api/broadcast/{topic:path}/events/{event:path}", broadcast.send_one, methods=["POST"]),
        ]

    async def start(self) -> None:
        await self._pool.open()
        await self._stream_pool.open()
        self._tasks = [
            asyncio.create_task(self._follow_changes(), name="realtime.changes"),
            asyncio.create_task(self._delete_old_messages(), name="realtime.retention"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._pool.close()
        await self._stream_pool.close()

    async def _websocket(self, websocket: WebSocket) -> None:
        # The key opens the connection only; what a channel may see depends on the token that joins it.
        key = websocket.headers.get("x-api-key") or websocket.query_params.get("apikey")
        if not key:
            return await websocket.send_denial_response(JSONResponse({"error": "Missing API key"}, 401))
        try:
            claims = self._identity.claims_of_token(key)
        except InvalidTokenError:
            return await websocket.send_denial_response(JSONResponse({"error": "Invalid API key"}, 401))
        await websocket.accept()
        connection = Connection(websocket, Version.of_query(websocket.query_params.get("vsn")), claims)
        session = Session(self._services, connection)
        try:
            await connection.serve(session.handle)
        finally:
            session.end()

    async def _follow_changes(self) -> None:
        """Tell clients about changes, for ever. Whenever some may have been missed, let everybody join anew."""
        while True:
            try:
                async with open_stream(self._dsn, [CHANGES_PUBLICATION, MESSAGES_PUBLICATION]) as stream:
                    self._streaming.set()
                    async for batch in stream.batches():
                        await self._deliver(batch)
            except (psycopg.OperationalError, StreamLostError):
                # Opening one may take several tries while the schema is being made: only a loss is news.
                logger.log(logging.WARNING if self._streaming.is_set() else logging.DEBUG, "realtime.stream_lost")
            except Exception:
                logger.exception("realtime.stream_failed")
            if self._streaming.is_set():
                self._streaming.clear()
                self._reset_channels()
            await asyncio.sleep(RECONNECT_S)

    async def _deliver(self, batch: list[RowChange]) -> None:
        """Changes and messages in the order of their commits."""
        changes: list[RowChange] = []
        for change in batch:
            if not is_messages(change.relation):
                changes.append(change)
                continue
            if changes:
                await self._announcer.announce(changes)
                changes = []
            if change.new is not None:
                send_from_database(self._registry, change.new)
        if changes:
            await self._announcer.announce(changes)

    def _reset_channels(self) -> None:
        """Both clients answer `phx_error` by joining again, after which users read the current state."""
        for channel in self._registry:
            channel.push_end("phx_error")
            self._registry.remove(channel)

    async def _delete_old_messages(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error):  # the next round will do
                await delete_old_messages(self._pool)
            await asyncio.sleep(RETENTION_INTERVAL_S)
