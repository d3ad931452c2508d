"""A relay in front of Supabase that lets all bytes pass and counts the requests of one client."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_HEAD = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r\n")
_VERSION = re.compile(r"_v\d+$")  # SQL functions carry one
_CHUNK_BYTES = 262_144


@dataclass(slots=True, kw_only=True)
class Relay:
    url: str
    requests: Counter[str] = field(default_factory=Counter)  #: by what was asked, see `kind_of`
    bytes_up: int = 0
    bytes_down: int = 0


def kind_of(method: str, path: str) -> str:
    """What a request to Supabase is about, without the names in it."""
    parts = urlsplit(path).path.strip("/").split("/")
    match parts:
        case ["rest", "v1", "rpc", function]:
            return _VERSION.sub("", function)
        case ["storage", "v1", "object", "sign", *_]:
            return "sign a link"
        case ["storage", "v1", "object", *_]:
            return "download" if method == "GET" else "upload"
        case ["realtime", *_]:
            return "realtime"
        case _:
            return f"{method} {'/'.join(parts[:3])}"


@asynccontextmanager
async def relay_to(target_url: str) -> AsyncIterator[Relay]:
    """Listens on a free port. Clients must not pipeline: a request has to begin with what is read from a socket."""
    target = urlsplit(target_url)
    relay = Relay(url="")
    open_tasks: set[asyncio.Task[None]] = set()

    async def pass_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while chunk := await reader.read(_CHUNK_BYTES):
                relay.bytes_up += len(chunk)
                if head := _HEAD.match(chunk):
                    relay.requests[kind_of(head[1].decode(), head[2].decode())] += 1
                writer.write(chunk)
                await writer.drain()

    async def pass_down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while chunk := await reader.read(_CHUNK_BYTES):
                relay.bytes_down += len(chunk)
                writer.write(chunk)
                await writer.drain()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        for work in (pass_up(reader, far_writer), pass_down(far_reader, writer)):
            task = asyncio.create_task(work)
            open_tasks.add(task)
            task.add_done_callback(forget)

    def forget(task: asyncio.Task[None]) -> None:
        open_tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a connection that is reset is the client's affair

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in list(open_tasks):
            task.cancel()
        await asyncio.gather(*open_tasks, return_exceptions=True)
