"""A server of scripted bytes on a real socket: says what no well-behaved HTTP library would say."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class RawRequest:
    """A request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(kw_only=True)
class RawServer:
    port: int = 0
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0


#: Called with the number of the request, from 0, the request, and where to write. Returning closes the connection,
#: unless it returns True.
Script = Callable[[int, RawRequest, asyncio.StreamWriter], Awaitable[bool | None]]


def http_answer(
    status: int = 200, body: bytes = b"", headers: dict[str, str] | None = None, *, length: int | None = None
) -> bytes:
    """An HTTP/1.1 answer; `length` is a Content-Length that may lie."""
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(answer: bytes) -> Script:
    async def script(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer)
        await writer.drain()
        return True

    return script


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of a goodbye."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def raw_server(
    script: Script, *, reads_bodies: bool = True, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[RawServer]:
    """Runs `script` for each request until the block ends."""
    state = RawServer()
    open_tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_tasks.add(task)
        state.connections += 1
        try:
            while True:
                request = await _read_request(reader, reads_bodies=reads_bodies)
                state.requests.append(request)
                if not await script(len(state.requests) - 1, request, writer):
                    return
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            open_tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in open_tasks:
            task.cancel()
        await asyncio.gather(*open_tasks, return_exceptions=True)


async def _read_request(reader: asyncio.StreamReader, *, reads_bodies: bool) -> RawRequest:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    request = RawRequest(method=method, target=target, headers=headers)
    if reads_bodies:
        request.body = await reader.readexactly(int(headers.get("content-length", "0")))
    return request
