"""Ends uploads that are too large: before the body is read when its length says so, in the middle when it lies."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import BadPictureError


class BodyLimit:
    """ASGI middleware. `max_bytes` bounds the whole body, unless `by_path` has another bound for its path.

    `max_file_mb` is what the error speaks of.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, by_path: Mapping[str, int], max_file_mb: float) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._by_path = by_path
        self._message = f"The file is too large: at most {max_file_mb:g} MB are accepted."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._by_path.get(scope["path"], self._max_bytes)
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > max_bytes:
            await JSONResponse({"detail": self._message}, 413, {"Connection": "close"})(scope, receive, send)
            return
        taken = 0

        async def counted_receive() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > max_bytes:
                    raise BadPictureError(self._message, status=413)
            return message

        await self._app(scope, counted_receive, send)
