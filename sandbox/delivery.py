"""An answer on its way out: whole, or spoiled on the connection by a fault; either way noted in the invoice."""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandbox.faults import Fault
from sandbox.invoice import Invoice, Line

_BLOCK = b"A" * 65_536  # of a huge body; also the letters of valid base64
_SPOILERS = ("reset", "lost_answer", "hang", "truncated", "reset_in_body", "drip", "huge_body", "empty_200")
_LINGER_OFF = struct.pack("ii", 1, 0)  # SO_LINGER on with 0 seconds: close() sends RST, not FIN


class Delivery(Response):
    """Sends `answer`, spoiled by `fault` when that strikes on the way out.

    The connection itself is broken through the server's transport, see `server.TransportInScope`.
    """

    def __init__(
        self, answer: Response, *, line: Line, invoice: Invoice, fault: Fault | None, stopping: asyncio.Event
    ) -> None:
        self.answer = answer
        self._line = line
        self._invoice = invoice
        self._fault = fault
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport: asyncio.Transport = scope["state"]["transport"]
        status: int | None = self.answer.status_code
        delivered = False
        fault = self._fault
        try:
            if fault is None or fault.name not in _SPOILERS:
                delivered = not transport.is_closing()
                await self.answer(scope, receive, send)
            elif fault.name in ("reset", "lost_answer"):
                status = None
                await _reset(transport, receive)
            elif fault.name == "hang":
                status = None
                await self._wait(fault.number("seconds"), receive)
                await _close(transport, receive)
            elif fault.name in ("truncated", "reset_in_body"):
                await self._send_part(fault.number("share"), send)
                await asyncio.sleep(0.05)  # let the part arrive: a reset may overtake it
                await (_reset if fault.name == "reset_in_body" else _close)(transport, receive)
            elif fault.name == "drip":
                delivered = await self._drip(fault, transport, receive, send)
            elif fault.name == "huge_body":
                await self._send_much(round(fault.number("megabytes") * 1_000_000), transport, send)
            elif fault.name == "empty_200":
                empty = Response(b"", media_type=self.answer.headers.get("content-type"))
                await empty(scope, receive, send)
        finally:
            self._invoice.note(self._line, status=status, delivered=delivered)

    async def _send_head(self, send: Send, length: int | None = None) -> None:
        """The answer's own head, with another Content-Length if one is given."""
        headers = [(name, value) for name, value in self.answer.raw_headers if name != b"content-length"]
        length = len(self.answer.body) if length is None else length
        headers.append((b"content-length", str(length).encode()))
        await send({"type": "http.response.start", "status": self.answer.status_code, "headers": headers})

    async def _send_part(self, share: float, send: Send) -> None:
        await self._send_head(send)
        part = bytes(self.answer.body[: int(len(self.answer.body) * share)])
        await send({"type": "http.response.body", "body": part, "more_body": True})

    async def _drip(self, fault: Fault, transport: asyncio.Transport, receive: Receive, send: Send) -> bool:
        """The body in small bits; True when it went out to the end."""
        await self._send_head(send)
        size = max(1, int(fault.number("bytes")))
        body = bytes(self.answer.body)
        for at in range(0, len(body), size):
            await self._wait(fault.number("seconds"), receive)
            if transport.is_closing() or self._stopping.is_set():
                await _close(transport, receive)
                return False
            more = at + size < len(body)
            await send({"type": "http.response.body", "body": body[at : at + size], "more_body": more})
        return True

    async def _send_much(self, size: int, transport: asyncio.Transport, send: Send) -> None:
        """A body of `size` bytes that begins as the answer would."""
        start = bytes(self.answer.body[:32])
        await self._send_head(send, length=size)
        left = size
        block = start + _BLOCK
        while left > 0 and not transport.is_closing() and not self._stopping.is_set():
            part = block[:left]
            left -= len(part)
            await send({"type": "http.response.body", "body": part, "more_body": left > 0})
            await asyncio.sleep(0)
            block = _BLOCK
        if left:
            transport.abort()

    async def _wait(self, seconds: float, receive: Receive) -> None:
        """Until the time is over, the client has gone, or the sandbox stops."""
        ends = [asyncio.ensure_future(_gone(receive)), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reset(transport: asyncio.Transport, receive: Receive) -> None:
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_OFF)
    transport.abort()
    await _gone(receive)


async def _close(transport: asyncio.Transport, receive: Receive) -> None:
    transport.close()
    await _gone(receive)
