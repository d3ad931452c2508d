"""Bytes on their way to a client: headers, byte ranges, and a body that is read piece by piece."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import formatdate
from typing import BinaryIO
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from embedded.storage import errors
from embedded.storage.rows import StoredObject

READ_CHUNK = 256 * 1024  # bytes; the memory that one download takes

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class FileRangeResponse(Response):
    """Sends `length` bytes of an open file from `start` on, then closes it. `headers` holds the content length."""

    def __init__(
        self, file: BinaryIO, *, start: int, length: int, status_code: int, headers: Mapping[str, str]
    ) -> None:
        self._file = file
        self._start = start
        self._length = length
        self.status_code = status_code
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await asyncio.to_thread(self._file.seek, self._start)
            remaining = self._length
            while remaining:
                piece = await asyncio.to_thread(self._file.read, min(READ_CHUNK, remaining))
                if not piece:
                    raise EOFError("a stored file is shorter than its row says")
                remaining -= len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": remaining > 0})
            if self._length == 0:
                await send({"type": "http.response.body", "body": b""})
        finally:
            self._file.close()


def headers_of(stored: StoredObject) -> dict[str, str]:
    """The headers of every answer that carries the object, or could."""
    metadata = stored.metadata or {}
    content_type = str(metadata.get("mimetype") or "application/octet-stream")
    if "text/html" in content_type:
        content_type = "text/plain"  # nobody shall serve web pages, with scripts, from a Storage address
    headers = {
        "accept-ranges": "bytes",
        "cache-control": str(metadata.get("cacheControl") or "no-cache"),
        "content-type": content_type,
        "etag": str(metadata.get("eTag") or ""),
        "last-modified": http_time(stored.updated_at),
        "x-robots-tag": "none",
    }
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise errors.invalid_request(f'Invalid character in response header "{name}"')
    return headers


def content_disposition(download: str) -> str:
    """Of `?download` and `?download=`: save under the link's own name; of `?download=name`: under that one."""
    if not download:
        return "attachment;"
    name = quote(download, safe="!~*'()")
    return f"attachment; filename={name}; filename*=UTF-8''{name}"


def matches_etag(if_none_match: str | None, etag: str) -> bool:
    """Whether the client's copy is the current one (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


def requested_range(headers: Headers, *, size: int, etag: str) -> tuple[int, int] | None:
    """The one byte range the client asks for, as (start, length); None: send all.

    Several ranges, other units, and a range of an older version (`If-Range`) get the whole object, as RFC 9110
    allows and S3 does.

    Raises:
        StorageError: 416, when the range lies behind the end.
    """
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    if match is None or match[0] == "bytes=-" or headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:  # the last n bytes
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start >= size or end < start:
        raise errors.range_not_satisfiable(size)
    return start, end - start + 1


def http_time(moment: datetime | int) -> str:
    """`Fri, 20 Nov 2026 07:00:00 GMT`, of a time zone aware moment or of seconds since the epoch."""
    if isinstance(moment, int):
        return formatdate(moment, usegmt=True)
    return formatdate(moment.timestamp(), usegmt=True)
