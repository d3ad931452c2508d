"""What the provider routes share on the wire: reading bodies, looking at pictures, sizes, and waits."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from PIL import Image
from starlette.requests import Request

from sandbox.faults import Fault

MAX_BODY_BYTES = 140_000_000  # 100 MB of pictures as base64, and some words
_SIZE_STEP = 8  # pixels; models answer in multiples of this
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height


class UnreadableBodyError(ValueError):
    """Not a JSON object, or too large."""


@dataclass(frozen=True, slots=True)
class Size:
    """In pixels, as shown."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def ratio(self) -> float:
        return self.width / self.height


async def read_object(request: Request) -> dict[str, Any]:
    """The JSON object in the request's body.

    Raises:
        UnreadableBodyError
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise UnreadableBodyError("the body is too large")
    try:
        value = json.loads(body)
    except ValueError as error:
        raise UnreadableBodyError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise UnreadableBodyError("the body is not a JSON object")
    return value


def picture_size(content: bytes) -> Size | None:
    """Width and height from the file's header, turned upright; None when it is no picture."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            if picture.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS:
                return Size(picture.height, picture.width)
            return Size(picture.width, picture.height)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def size_for(ratio: float, pixels: int) -> Size:
    """About so many pixels in this aspect ratio (width / height)."""
    width = math.sqrt(pixels * ratio)
    return Size(_stepped(width), _stepped(width / ratio))


def parse_ratio(text: str) -> float:
    """`3:2` as 1.5."""
    width, _, height = text.partition(":")
    return int(width) / int(height)


def retry_after(fault: Fault) -> dict[str, str]:
    """The header that a `rate_limit` fault asks for, if any."""
    text = fault.text("retry_after")
    if text.startswith("date"):
        moment = datetime.now(UTC) + timedelta(seconds=float(text.removeprefix("date") or 0))
        text = format_datetime(moment, usegmt=True)
    return {"Retry-After": text} if text else {}


def _stepped(length: float) -> int:
    return max(_SIZE_STEP, round(length / _SIZE_STEP) * _SIZE_STEP)
