"""What Reve is asked for: the checks of the request body, its price, and the picture job it means.

Fields, limits and prices: the vendor's api.reve.com/llms.txt and its Python SDK 0.1.9 (reve/v1). Where only the HTTP
status of an error is known, the `error_code` is ours.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox import prices
from sandbox.wire import Size, parse_ratio, picture_size, size_for
from sandbox.work import Colourise, CutOut, Enhance, Fit, PadTo, PictureJob, Restore, Scene, Step, Upscale

MAX_PROMPT_CHARACTERS = 2560
MAX_PICTURE_BYTES = 40_000_000
MAX_PICTURE_PIXELS = 33_554_432
MAX_PICTURE_SIDE = 8192
MAX_REFERENCES = 6
CREATED_PIXELS = 1_500_000  # v1 pictures have about 1.5 megapixels

RATIOS = ("16:9", "9:16", "3:2", "2:3", "4:3", "3:4", "1:1")
VERSIONS: Mapping[str, Mapping[str, str]] = {
    "create": {"latest": "reve-create@20250915"},
    "edit": {"latest": "reve-edit@20250915", "latest-fast": "reve-edit-fast@20251030"},
    "remix": {"latest": "reve-remix@20250915", "latest-fast": "reve-remix-fast@20251030"},
}
FIELDS: Mapping[str, tuple[str, ...]] = {
    "create": ("prompt",),
    "edit": ("edit_instruction", "reference_image"),
    "remix": ("prompt", "reference_images"),
}

_ASKS_FOR_RESTORATION = re.compile(r"restor|scratch|repair", re.IGNORECASE)
_ASKS_FOR_COLOUR = re.compile(r"colou?ri[sz]", re.IGNORECASE)
_REFERENCE = re.compile(r"<(?:img|ref)>(\d+)</(?:img|ref)>")


class RejectedError(Exception):
    """The request is refused before any work."""

    def __init__(self, status: int, code: str, message: str, **params: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.params = params


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    version: str  #: the concrete one
    credit_count: int
    first_picture: bytes | None
    size: Size  #: of the picture that comes out
    job: PictureJob


def read_order(operation: str, body: Mapping[str, Any], *, prompt: str, media_type: str) -> Order:
    """The order that a request body means. `prompt` comes without a fault marker.

    Raises:
        RejectedError
    """
    for name in FIELDS[operation]:
        if not body.get(name):
            raise RejectedError(400, "MISSING_REQUIRED_PARAMETER", f"{name} is required", parameter=name)
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise RejectedError(400, "PROMPT_TOO_LONG", "the prompt is too long", max=MAX_PROMPT_CHARACTERS)
    version = _read_version(operation, body)
    ratio = _read_ratio(body)
    pictures = [_decode_picture(text, name) for name, text in _picture_texts(operation, body)]
    steps: list[Step]
    if operation == "edit":
        size = pictures[0][1]
        wants_cutout = any(
            isinstance(item, dict) and item.get("process") == "remove_background"
            for item in body.get("postprocessing") or []
        )
        steps = _edit_steps(prompt, may_be_empty=wants_cutout)
    else:
        _check_references(prompt, len(pictures))
        size = size_for(ratio or (pictures[0][1].ratio if pictures else 1.5), CREATED_PIXELS)
        steps = [Scene(prompt=prompt, width=size.width, height=size.height)]
    credit_count = prices.REVE_FAST_CREDITS if "fast" in version else prices.REVE_CREDITS[operation]
    for item in _list(body, "postprocessing"):
        step, extra, size = _postprocess(item, size)
        credit_count += extra
        steps += [step] if step else []
    if operation == "edit" and ratio is not None:
        steps.append(PadTo(ratio=ratio))
    source = pictures[0][0] if pictures else None
    job = PictureJob(source=source, steps=tuple(steps), media_type=media_type)
    return Order(version=version, credit_count=credit_count, first_picture=source, size=size, job=job)


def _edit_steps(instruction: str, *, may_be_empty: bool) -> list[Step]:
    """Restore and colourise where the words ask for it; else a gentle touch, unless other work follows."""
    steps: list[Step] = []
    if _ASKS_FOR_RESTORATION.search(instruction):
        steps.append(Restore())
    if _ASKS_FOR_COLOUR.search(instruction):
        steps.append(Colourise(instruction=instruction))
    return steps or ([] if may_be_empty else [Enhance()])


def _postprocess(item: Any, size: Size) -> tuple[Step | None, int, Size]:
    """One item of `postprocessing`: its step, its credits, and the size afterwards."""
    name = item.get("process") if isinstance(item, dict) else None
    if name == "remove_background":
        return CutOut(), prices.reve_credits_by_size(size.pixels), size
    if name == "upscale":
        factor = item.get("upscale_factor")
        if factor not in (2, 3, 4):
            raise _invalid("upscale_factor", "2, 3 or 4")
        larger = Size(size.width * factor, size.height * factor)
        if larger.pixels > MAX_PICTURE_PIXELS:
            raise _invalid("upscale_factor", f"a result of at most {MAX_PICTURE_PIXELS} pixels")
        return Upscale(factor=factor), prices.reve_credits_by_size(larger.pixels), larger
    if name == "fit_image":
        return _fit(item, size)
    if name == "effect" and isinstance(item.get("effect_name"), str):
        return None, prices.REVE_EFFECT_CREDITS, size  # charged, and not drawn
    raise _invalid("postprocessing", "upscale, remove_background, fit_image or effect")


def _fit(item: Mapping[str, Any], size: Size) -> tuple[Step, int, Size]:
    bounds = {name: item[name] for name in ("max_dim", "max_width", "max_height") if name in item}
    if not bounds or any(not isinstance(bound, int) or not 1 <= bound <= 4096 for bound in bounds.values()):
        raise _invalid("fit_image", "max_dim, or max_width and max_height, of 1 to 4096")
    largest = bounds.get("max_dim", 4096)
    fit = Fit(max_width=bounds.get("max_width", largest), max_height=bounds.get("max_height", largest))
    shrink = min(1.0, fit.max_width / size.width, fit.max_height / size.height)
    return fit, 0, Size(max(1, round(size.width * shrink)), max(1, round(size.height * shrink)))


def _picture_texts(operation: str, body: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if operation == "edit":
        return [("reference_image", body["reference_image"])]
    if operation == "create":
        return []
    references = _list(body, "reference_images")
    if not 1 <= len(references) <= MAX_REFERENCES:
        raise RejectedError(400, "INDEX_OUT_OF_BOUNDS", "1 to 6 reference images", max=MAX_REFERENCES)
    return [(f"reference_images[{index}]", text) for index, text in enumerate(references)]


def _decode_picture(text: Any, name: str) -> tuple[bytes, Size]:
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RejectedError(422, "INVALID_IMAGE", f"{name} is not base64", parameter=name) from None
    if len(content) > MAX_PICTURE_BYTES:
        raise RejectedError(400, "IMAGE_TOO_LARGE", f"{name} is too large", max=MAX_PICTURE_BYTES)
    size = picture_size(content)
    if size is None:
        raise RejectedError(422, "INVALID_IMAGE", f"{name} cannot be decoded", parameter=name)
    if size.pixels > MAX_PICTURE_PIXELS or max(size.width, size.height) > MAX_PICTURE_SIDE:
        raise RejectedError(400, "IMAGE_TOO_LARGE", f"{name} has too many pixels", max=MAX_PICTURE_PIXELS)
    return content, size


def _check_references(prompt: str, count: int) -> None:
    for index in _REFERENCE.findall(prompt):
        if count and int(index) >= count:
            raise RejectedError(400, "INDEX_OUT_OF_BOUNDS", f"there is no picture {index}", max=count - 1)


def _read_version(operation: str, body: Mapping[str, Any]) -> str:
    wanted = body.get("version", "latest")
    known = VERSIONS[operation]
    if wanted in known:
        return known[wanted]
    if wanted in known.values():
        return str(wanted)
    raise _invalid("version", ", ".join([*known, *known.values()]))


def _read_ratio(body: Mapping[str, Any]) -> float | None:
    wanted = body.get("aspect_ratio")
    if wanted in (None, "auto"):
        return None
    if wanted not in RATIOS:
        raise _invalid("aspect_ratio", ", ".join(RATIOS))
    return parse_ratio(wanted)


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name) or []
    if not isinstance(value, list):
        raise _invalid(name, "a list")
    return value


def _invalid(parameter: str, wanted: str) -> RejectedError:
    return RejectedError(400, "INVALID_PARAMETER", f"{parameter}: wanted {wanted}", parameter=parameter)
