"""One client's websocket: frames in one at a time, frames out through a bounded queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket, WebSocketDisconnect

from embedded.identity import Claims
from embedded.realtime.frames import ClientMessage, FrameError, Version, decode_binary, decode_text

if TYPE_CHECKING:
    from embedded.realtime.channels import Channel

#: What may wait for one client: a few messages of the largest kind. A client that reads slower than that is cut off
#: and comes back by itself, instead of holding the memory of everybody.
MAX_WAITING_BYTES = 16 * 1024 * 1024
#: Clients send a heartbeat every 25 seconds; after this much silence (seconds) nobody is there.
MAX_SILENCE_S = 60.0
CLOSE_TIMEOUT_S = 1.0

INVALID_FRAME = 1007  # close codes: RFC 6455, section 7.4.1
TRY_AGAIN_LATER = 1013


class Connection:
    """`claims` are those of the API key that opened it; a channel may act by a user's token instead."""

    def __init__(self, websocket: WebSocket, version: Version, claims: Claims) -> None:
        self.version = version
        self.claims = claims
        self.channels: dict[str, Channel] = {}
        self._websocket = websocket
        self._waiting: deque[str | bytes] = deque()
        self._waiting_bytes = 0
        self._has_waiting = asyncio.Event()
        self._overflowed = asyncio.Event()

    def send(self, frame: str | bytes) -> None:
        """Queue a frame; never waits. When too much is queued already, the connection ends instead."""
        if self._overflowed.is_set():
            return
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self._waiting.clear()
            self._overflowed.set()
            return
        self._waiting.append(frame)
        self._has_waiting.set()

    async def serve(self, handle: Callable[[ClientMessage], Awaitable[None]]) -> None:
        """Read and write until either side ends the connection."""
        tasks = [
            asyncio.create_task(self._read(handle), name="realtime.read"),
            asyncio.create_task(self._write(), name="realtime.write"),
            asyncio.create_task(self._overflowed.wait(), name="realtime.overflow"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._overflowed.is_set():
            await self._close(TRY_AGAIN_LATER)
        for task in done:
            with contextlib.suppress(WebSocketDisconnect):
                await task

    async def _read(self, handle: Callable[[ClientMessage], Awaitable[None]]) -> None:
        while True:
            try:
                async with asyncio.timeout(MAX_SILENCE_S):
                    event = await self._websocket.receive()
                if event["type"] == "websocket.disconnect":
                    return
                text: str | None = event.get("text")
                message = decode_binary(event["bytes"]) if text is None else decode_text(text)
            except TimeoutError:
                await self._close(TRY_AGAIN_LATER)
                return
            except FrameError:
                await self._close(INVALID_FRAME)
                return
            await handle(message)

    async def _write(self) -> None:
        while True:
            await self._has_waiting.wait()
            self._has_waiting.clear()
            while self._waiting:
                frame = self._waiting.popleft()
                self._waiting_bytes -= len(frame)
                if isinstance(frame, str):
                    await self._websocket.send_text(frame)
                else:
                    await self._websocket.send_bytes(frame)

    async def _close(self, code: int) -> None:
        with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._websocket.close(code)
