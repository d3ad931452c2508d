"""A door: stands before a server, lets requests pass one by one, and does to each what the script says."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

from chaos import faults
from chaos.faults import Fault, Moment
from chaos.requests import kind_of
from chaos.script import Deed, Exchange, Script
from chaos.wire import MAX_HEAD_BYTES, NO_CONTENT, BrokenMessageError, Message, ask, read_head, read_request

LOOPBACK = "127.0.0.1"
LEASE_FIELD = "x_chaos_lease"  # the lease that a write shows; history.sql reads it
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


class Door:
    def __init__(self, server_url: str, *, script: Script, canary_url: str) -> None:
        parts = urlsplit(server_url)
        self._host, self._server_port = parts.hostname or LOOPBACK, parts.port or 80
        self.script = script
        self._canary_url = canary_url
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._in_flight: dict[asyncio.StreamWriter, Exchange] = {}

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._welcome, LOOPBACK, self._port, limit=MAX_HEAD_BYTES)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._refuse_all()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refuse_all(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for writer in self._connections.values():
            if (cut_off := self._in_flight.get(writer)) and cut_off.deed is None:
                cut_off.deed = Fault.REFUSED
            _reset(writer)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        writer.transport.set_write_buffer_limits(high=0)  # what was sent has left us when `drain` returns
        try:
            # A broken line on either side ends the connection, as it would without a door.
            with contextlib.suppress(BrokenMessageError, OSError, asyncio.CancelledError):
                while await self._serve(reader, writer):
                    pass
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection can serve another request."""
        request = await read_request(reader)
        if request is None or writer.is_closing():  # cut off before it was read: it never came
            return False
        method, target, _ = request.first_line.split(" ", 2)
        fields = _json_fields(request)
        exchange = self.script.open_exchange(kind_of(method, target), target.partition("?")[0], fields)
        if "lease" in fields:
            request = request.with_fields(**{LEASE_FIELD: str(fields["lease"])})
        if request.field("upgrade"):
            await self._serve_websocket(request, exchange, reader, writer)
            return False
        self._in_flight[writer] = exchange
        try:
            return await self._answer(request, exchange, reader, writer)
        finally:
            del self._in_flight[writer]

    async def _answer(
        self, request: Message, exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        deed = exchange.deed
        if deed is Moment.BEFORE:
            return self._kill(writer)
        if isinstance(deed, Fault) and deed in faults.NOT_FORWARDED:
            return await self._spoil(deed, None, reader, writer)
        if deed is Fault.REPLAYED:
            await ask(self._host, self._server_port, request)
        answer = await ask(self._host, self._server_port, request)
        exchange.status = answer.status
        exchange.answer_sha256 = hashlib.sha256(answer.body).hexdigest()
        if deed is Moment.UNANSWERED:
            return self._kill(writer)
        if isinstance(deed, Fault) and deed is not Fault.REPLAYED:
            return await self._spoil(deed, answer, reader, writer)
        await _send(writer, answer.head + answer.body)
        if deed is Moment.ANSWERED:
            return self._kill(writer)
        return _says_how_long(answer)

    def _kill(self, writer: asyncio.StreamWriter) -> bool:
        self.script.kill_worker()
        writer.transport.abort()
        return False

    async def _spoil(
        self, fault: Fault, answer: Message | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        canned = faults.canned_answer(fault, canary_url=self._canary_url)
        if canned is not None:
            await _send(writer, canned.head + canned.body)
            return True
        whole = answer.head + answer.body if answer else b""
        half = whole[: len(whole) - (len(answer.body) + 1) // 2] if answer and answer.body else whole[:-2]
        match fault:
            case Fault.REFUSED:
                self._refuse_all()
                await asyncio.sleep(faults.REFUSED_FOR_S)
                await self.open()
            case Fault.RESET | Fault.LOST:
                _reset(writer)
            case Fault.CUT:
                await _send(writer, half)
                await asyncio.sleep(0.05)  # let it be read: a reset discards what is still on its way
                _reset(writer)
            case Fault.TRUNCATED:
                await _send(writer, half)
                writer.close()
            case Fault.HANG:
                await _until_given_up(reader)
            case Fault.DRIP:
                await _drip(writer, whole)
            case Fault.HUGE:
                writer.write(faults.huge_head())
                for piece in faults.huge_pieces():
                    await _send(writer, piece)
                return True
            case Fault.TWICE:
                await _send(writer, whole + whole)
                return True
            case _:
                raise NotImplementedError(fault)
        return False

    async def _serve_websocket(
        self, request: Message, exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        deed: Deed = exchange.deed
        if deed is Moment.BEFORE:
            self._kill(writer)
            return
        if isinstance(deed, Fault):
            await self._spoil(deed, None, reader, writer)
            return
        server_reader, server_writer = await asyncio.open_connection(self._host, self._server_port)
        try:
            server_writer.write(request.head)
            answer = await read_head(server_reader)
            if answer is None:
                return
            exchange.status = answer.status
            if deed is Moment.UNANSWERED:
                self._kill(writer)
                return
            await _send(writer, answer.head)
            if deed is Moment.ANSWERED:
                self._kill(writer)
                return
            both = {
                asyncio.create_task(_pour(reader, server_writer)),
                asyncio.create_task(_pour(server_reader, writer)),
            }
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in both:
                    task.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        finally:
            server_writer.transport.abort()


class Canary:
    """Listens where nobody must ever call."""

    def __init__(self) -> None:
        self.visits = 0
        self._listener: asyncio.Server | None = None
        self.url = ""

    async def open(self) -> None:
        self._listener = await asyncio.start_server(self._visited, LOOPBACK, 0)
        self.url = f"http://{LOOPBACK}:{self._listener.sockets[0].getsockname()[1]}/"

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()

    def _visited(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.transport.abort()


def _json_fields(request: Message) -> dict[str, Any]:
    if not (request.field("content-type") or "").startswith("application/json") or len(request.body) > 100_000:
        return {}
    fields = json.loads(request.body)
    return fields if isinstance(fields, dict) else {}


def _says_how_long(answer: Message) -> bool:
    return answer.status == NO_CONTENT or bool(answer.field("content-length") or answer.field("transfer-encoding"))


async def _send(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(content)
    await writer.drain()


async def _drip(writer: asyncio.StreamWriter, content: bytes) -> None:
    """The head at once, then one byte at a time for as long as somebody waits."""
    head_end = content.index(b"\r\n\r\n") + 4
    await _send(writer, content[:head_end])
    for place in range(head_end, len(content)):
        if writer.is_closing():
            return
        await _send(writer, content[place : place + 1])
        await asyncio.sleep(faults.DRIP_PAUSE_S)


async def _until_given_up(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reader.read(1), faults.HANG_S)


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while content := await source.read(65_536):
        await _send(target, content)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
