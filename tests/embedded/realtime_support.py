"""Realtime as its clients meet it: the official Python client, and plain websockets where that one hides things."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

import jwt
import psycopg
import websockets
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from websockets.asyncio.client import ClientConnection

from tests.stack import RunningStack

PATIENCE_S = 15.0  # a shared machine may be slow; nothing here takes a second
#: How long nothing must come before we believe that nothing will. What should not come would follow within
#: milliseconds of something later that did come, so tests send such a later thing where they can.
SILENCE_S = 0.3

_numbers = itertools.count(1)


def user_token(stack: RunningStack, user: str, *, lifetime_s: float = 600, role: str = "authenticated") -> str:
    """An access token as Auth would sign it with the project's HS256 secret."""
    claims = {"role": role, "sub": user, "aud": "authenticated", "exp": time.time() + lifetime_s}
    return jwt.encode(claims, stack.jwt_secret, "HS256")


@contextmanager
def postgres_of(stack: RunningStack, *, superuser: bool = False) -> Iterator[psycopg.Connection[Any]]:
    """A connection as `postgres`, as migrations have it; each statement commits."""
    with psycopg.connect(stack.superuser_url if superuser else stack.database_url, autocommit=True) as connection:
        yield connection


def create_table(connection: psycopg.Connection[Any], columns: str, *, published: bool = True) -> str:
    """A table of its own in `public`, readable for all roles; its name comes back."""
    name = f"realtime_{next(_numbers)}"
    connection.execute(f"create table public.{name} ({columns})")
    connection.execute(f"grant select on public.{name} to anon, authenticated, service_role")
    if published:
        connection.execute(f"alter publication supabase_realtime add table public.{name}")
    return name


def topic_name() -> str:
    return f"topic-{next(_numbers)}"


@asynccontextmanager
async def connected(
    stack: RunningStack, key: str | None = None, *, token: str | None = None
) -> AsyncIterator[AsyncRealtimeClient]:
    """The official client, with the secret key unless another is given."""
    client = AsyncRealtimeClient(f"{stack.url}/realtime/v1", key or stack.secret_key)
    if token is not None:
        await client.set_auth(token)
    await client.connect()
    try:
        yield client
    finally:
        client.auto_reconnect = False
        await client.close()
        await asyncio.sleep(0)  # let its cancelled tasks end


class Changes:
    """A channel's row changes, system messages and states, as they come."""

    def __init__(self, channel: AsyncRealtimeChannel) -> None:
        self.channel = channel
        self.payloads: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.states: asyncio.Queue[tuple[RealtimeSubscribeStates, Exception | None]] = asyncio.Queue()
        self.system: asyncio.Queue[Any] = asyncio.Queue()
        channel.on_system(self.system.put_nowait)

    def on(self, table: str, *, event: str = "*", **options: Any) -> Changes:
        listen: Any = self.channel.on_postgres_changes  # its types want an enum and a TypedDict
        listen(event, schema="public", table=table, callback=self.payloads.put_nowait, **options)
        return self

    async def subscribed(self) -> Changes:
        """Subscribe and wait until changes flow."""
        await self.channel.subscribe(lambda state, error: self.states.put_nowait((state, error)))
        message = await next_of(self.system)
        assert (message.status, message.message) == ("ok", "Subscribed to PostgreSQL")
        return self

    async def next(self) -> dict[str, Any]:
        """The `data` of the next change."""
        data: dict[str, Any] = (await next_of(self.payloads))["data"]
        return data

    async def records(self, count: int) -> list[dict[str, Any]]:
        return [(await self.next())["record"] for _ in range(count)]


Item = TypeVar("Item")


async def next_of(queue: asyncio.Queue[Item]) -> Item:
    async with asyncio.timeout(PATIENCE_S):
        return await queue.get()


async def stays_empty(queue: asyncio.Queue[Any]) -> bool:
    await asyncio.sleep(SILENCE_S)
    return queue.empty()


class Socket:
    """A websocket that speaks version 1 of the protocol by hand."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self._refs = itertools.count(1)

    async def send(self, topic: str, event: str, payload: object = None, *, join_ref: str | None = None) -> str:
        ref = str(next(self._refs))
        frame = {"topic": topic, "event": event, "payload": payload or {}, "ref": ref, "join_ref": join_ref or ref}
        await self.websocket.send(json.dumps(frame))
        return ref

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            frame: dict[str, Any] = json.loads(await self.websocket.recv())
            return frame

    async def join(self, topic: str, config: dict[str, Any] | None = None, token: str | None = None) -> dict[str, Any]:
        """Join a topic; the payload of the reply comes back."""
        payload = {"config": config or {}} | ({} if token is None else {"access_token": token})
        await self.send(f"realtime:{topic}", "phx_join", payload)
        reply = await self.receive()
        assert reply["event"] == "phx_reply"
        answer: dict[str, Any] = reply["payload"]
        return answer


@asynccontextmanager
async def open_socket(stack: RunningStack, key: str | None = None, **parameters: str) -> AsyncIterator[Socket]:
    url = stack.url.replace("http", "ws", 1) + "/realtime/v1/websocket"
    query = urlencode({"apikey": key or stack.publishable_key} | parameters)
    async with websockets.connect(f"{url}?{query}") as websocket:
        yield Socket(websocket)
