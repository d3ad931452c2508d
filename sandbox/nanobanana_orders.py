"""What NanoBanana is asked for: the checks of the three request bodies, their price, and the task they mean.

Fields: docs.nanobananaapi.ai, the page of each endpoint. The three generations name the same things differently.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox import prices
from sandbox.wire import parse_ratio

_TEN_RATIOS = ("1:1", "9:16", "16:9", "3:4", "4:3", "3:2", "2:3", "5:4", "4:5", "21:9")
_FIFTEEN_RATIOS = (*_TEN_RATIOS, "1:4", "1:8", "4:1", "8:1", "auto")
_PIXELS = {"1K": 1024**2, "2K": 2048**2, "4K": 4096**2}


class RejectedError(Exception):
    """The request is refused before any work; `code` goes into the body."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    ratio_field: str
    ratios: tuple[str, ...]
    default_ratio: str
    max_pictures: int
    max_prompt_characters: int
    message_field: str  #: the newer ones say `message`


ENDPOINTS: Mapping[str, Endpoint] = {
    "generate": Endpoint(
        ratio_field="image_size",
        ratios=_TEN_RATIOS,
        default_ratio="1:1",
        max_pictures=8,
        max_prompt_characters=20_000,
        message_field="msg",
    ),
    "generate-2": Endpoint(
        ratio_field="aspectRatio",
        ratios=_FIFTEEN_RATIOS,
        default_ratio="auto",
        max_pictures=14,
        max_prompt_characters=20_000,
        message_field="message",
    ),
    "generate-pro": Endpoint(
        ratio_field="aspectRatio",
        ratios=(*_TEN_RATIOS, "auto"),
        default_ratio="auto",
        max_pictures=8,
        max_prompt_characters=20_000,
        message_field="message",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    image_urls: list[str]
    callback_url: str | None
    ratio: float | None  #: width / height; None: as the picture has it
    pixels: int
    media_type: str
    credit_count: int
    operation_type: str


def read_order(operation: str, body: Mapping[str, Any]) -> Order:
    """The order that a request body means.

    Raises:
        RejectedError
    """
    endpoint = ENDPOINTS[operation]
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt or len(prompt) > endpoint.max_prompt_characters:
        raise RejectedError(400, f"prompt is required, at most {endpoint.max_prompt_characters} characters")
    image_urls = body.get("imageUrls") or []
    if not isinstance(image_urls, list) or not all(_is_url(url) for url in image_urls):
        raise RejectedError(400, "imageUrls is a list of public URLs")
    if len(image_urls) > endpoint.max_pictures:
        raise RejectedError(400, f"imageUrls holds at most {endpoint.max_pictures}")
    if operation == "generate":
        _check_type(body, image_urls)
    wanted_ratio = body.get(endpoint.ratio_field, endpoint.default_ratio)
    if wanted_ratio not in endpoint.ratios:
        raise RejectedError(400, f"{endpoint.ratio_field} is one of {', '.join(endpoint.ratios)}")
    resolution = "1K" if operation == "generate" else body.get("resolution", "1K")
    if resolution not in _PIXELS:
        raise RejectedError(400, f"resolution is one of {', '.join(_PIXELS)}")
    callback_url = body.get("callBackUrl")
    if callback_url is not None and not _is_url(callback_url):
        raise RejectedError(400, "callBackUrl is not a URL")
    return Order(
        image_urls=image_urls,
        callback_url=callback_url,
        ratio=None if wanted_ratio == "auto" else parse_ratio(wanted_ratio),
        pixels=_PIXELS[resolution],
        media_type=_media_type(operation, body),
        credit_count=prices.NANOBANANA_CREDITS[operation][resolution],
        operation_type=_operation_type(operation, resolution),
    )


def new_task_id() -> str:
    return f"task_{secrets.token_hex(12)}"


def _check_type(body: Mapping[str, Any], image_urls: list[str]) -> None:
    """The first generation says what it wants, in the vendor's spelling."""
    wanted = body.get("type")
    if wanted not in ("TEXTTOIAMGE", "IMAGETOIAMGE"):
        raise RejectedError(400, "type is TEXTTOIAMGE or IMAGETOIAMGE")
    if wanted == "IMAGETOIAMGE" and not image_urls:
        raise RejectedError(400, "imageUrls is required for IMAGETOIAMGE")
    count = body.get("numImages", 1)
    if isinstance(count, bool) or count not in (1, 2, 3, 4):
        raise RejectedError(400, "numImages is 1 to 4")
    if count > 1:
        raise RejectedError(400, "the sandbox makes one picture at a time: the shape of several is not documented")


def _media_type(operation: str, body: Mapping[str, Any]) -> str:
    if operation != "generate-2":
        return "image/png"
    wanted = body.get("outputFormat", "jpg")
    if wanted not in ("png", "jpg"):
        raise RejectedError(400, "outputFormat is png or jpg")
    return "image/png" if wanted == "png" else "image/jpeg"


def _operation_type(operation: str, resolution: str) -> str:
    model = {"generate": "nano-banana", "generate-2": "nano-banana-2", "generate-pro": "nano-banana-pro"}[operation]
    return f"{model}_{resolution.lower()}"


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))
