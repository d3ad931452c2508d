"""HTTP/1.1 messages as bytes: read whole, changed a little, sent on. Only what the doors need."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

MAX_HEAD_BYTES = 65_536
NO_CONTENT = 204


class BrokenMessageError(Exception):
    """The connection ended in the middle of a message, or the message is not one that a door understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request or an answer. Of an answer with chunks, `body` holds them as they came, sizes included."""

    first_line: str
    fields: tuple[tuple[str, str], ...]  #: names in lower case
    body: bytes = b""

    def field(self, name: str) -> str | None:
        return next((value for known, value in self.fields if known == name), None)

    def with_fields(self, **changes: str | None) -> Message:
        """With these fields, `_` for `-`; None removes one."""
        changed = {name.replace("_", "-"): value for name, value in changes.items()}
        kept = tuple(pair for pair in self.fields if pair[0] not in changed)
        added = tuple((name, value) for name, value in changed.items() if value is not None)
        return Message(first_line=self.first_line, fields=kept + added, body=self.body)

    @property
    def head(self) -> bytes:
        lines = [self.first_line, *(f"{name}: {value}" for name, value in self.fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first_line.split(" ", 2)[1])


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    """The next message without its body; None when the other side has closed the connection instead.

    Raises:
        BrokenMessageError: It closed it in the middle.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise BrokenMessageError("cut off in the head") from error
    except (asyncio.LimitOverrunError, OSError) as error:
        raise BrokenMessageError(type(error).__name__) from error
    first_line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Message(first_line=first_line, fields=tuple((name.lower(), value.strip()) for name, _, value in pairs))


async def read_request(reader: asyncio.StreamReader) -> Message | None:
    """The next whole request; None when there is none."""
    head = await read_head(reader)
    if head is None:
        return None
    if head.field("transfer-encoding"):
        raise BrokenMessageError("a request in chunks")
    try:
        body = await reader.readexactly(int(head.field("content-length") or 0))
    except (asyncio.IncompleteReadError, OSError) as error:
        raise BrokenMessageError("cut off in the body") from error
    return Message(first_line=head.first_line, fields=head.fields, body=body)


async def ask(host: str, port: int, request: Message) -> Message:
    """The whole answer of a server to a request, on a connection of its own.

    Raises:
        BrokenMessageError, OSError: It gave none.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES)
    try:
        # Without `connection: close`: a server that answers early would close on us while we still send, which resets.
        writer.write(request.head + request.body)
        await writer.drain()
        return await _read_answer(reader)
    finally:
        writer.transport.abort()


async def _read_answer(reader: asyncio.StreamReader) -> Message:
    head = await read_head(reader)
    if head is None:
        raise BrokenMessageError("no answer")
    body = b""
    try:
        if head.field("transfer-encoding"):
            line = b""
            while line != b"0\r\n":
                line = await reader.readuntil(b"\r\n")
                body += line + await reader.readexactly(int(line, 16) + 2)
        elif head.status != NO_CONTENT:
            length = head.field("content-length")
            body = await (reader.read() if length is None else reader.readexactly(int(length)))
    except asyncio.IncompleteReadError as error:
        raise BrokenMessageError("cut off in the body") from error
    return Message(first_line=head.first_line, fields=head.fields, body=body)
