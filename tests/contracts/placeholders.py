"""Placeholders in the contract pages: what each one accepts, and a sample of it."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from PIL import Image, UnidentifiedImageError

PLACEHOLDER = re.compile(r"<([a-z0-9 ]+)>")


def _sample_png() -> bytes:
    """96 x 64, RGBA, with a soft edge: small, but nothing that a plausibility check would call empty."""
    picture = Image.new("RGBA", (96, 64), (196, 154, 60, 255))
    picture.putalpha(Image.linear_gradient("L").resize((96, 64)))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _is_base64_of(*formats: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, str):
            return False
        try:
            with Image.open(io.BytesIO(base64.b64decode(value, validate=True))) as picture:
                picture.load()
                return not formats or picture.format in formats
        except (binascii.Error, UnidentifiedImageError, OSError):
            return False

    return check


def _matches(expression: str) -> Callable[[Any], bool]:
    compiled = re.compile(expression, re.DOTALL)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_json_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and json.loads(value) is not None
    except ValueError:
        return False


def _is_http_date(value: Any) -> bool:
    try:
        return isinstance(value, str) and parsedate_to_datetime(value) is not None
    except ValueError:
        return False


#: What each placeholder accepts.
CHECKS: dict[str, Callable[[Any], bool]] = {
    "anything": lambda value: True,
    "text": _matches(r".+"),
    "key": _matches(r"\S+"),
    "int": _is_whole_number,
    "whole number as text": _matches(r"\d+"),
    "epoch ms": lambda value: _is_whole_number(value) and value > 10**12,
    "base64 png": _is_base64_of("PNG"),
    "base64 picture": _is_base64_of(),
    "url": _matches(r"https?://[^\s\"]+"),
    "task id": _matches(r"[A-Za-z0-9_-]{4,}"),
    "request id": _matches(r"[A-Za-z0-9_-]{4,}"),
    "result name": _matches(r"[A-Za-z0-9_-]+\.(png|jpg)"),
    "json text": _is_json_text,
    "http date": _is_http_date,
    "html": _matches(r"\s*<(!doctype|html).*"),
}

#: A real value for each placeholder that an answer may hold.
SAMPLES: dict[str, Any] = {
    "anything": "anything",
    "text": "Some words.",
    "key": "papi.0a1b2c3d",
    "int": 30,
    "whole number as text": "30",
    "epoch ms": 1_760_000_000_000,
    "base64 png": base64.b64encode(_sample_png()).decode(),
    "base64 picture": base64.b64encode(_sample_png()).decode(),
    "url": "https://tempfile.aiquickdraw.com/r/0a1b2c3d.png",
    "task id": "task_9f31c2d4",
    "request id": "rsid-0a1b2c",
    "result name": "0a1b2c3d.png",
    "json text": '{"prompt":"On dark stone."}',
    "http date": "Wed, 21 Oct 2026 07:28:00 GMT",
    "html": "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>",
}


def differences(pattern: Any, actual: Any, where: str = "value") -> list[str]:
    """What `actual` has that the pattern does not allow, one line each; empty when it matches."""
    if isinstance(pattern, dict):
        return _object_differences(pattern, actual, where)
    if isinstance(pattern, list):
        if not isinstance(actual, list) or len(actual) != len(pattern):
            return [f"{where}: wanted a list of {len(pattern)}, got {_shown(actual)}"]
        pairs = enumerate(zip(pattern, actual, strict=True))
        return [line for at, (part, value) in pairs for line in differences(part, value, f"{where}[{at}]")]
    if isinstance(pattern, str) and PLACEHOLDER.search(pattern):
        return [] if _text_matches(pattern, actual) else [f"{where}: wanted {pattern}, got {_shown(actual)}"]
    if type(pattern) is not type(actual) or pattern != actual:
        return [f"{where}: wanted {_shown(pattern)}, got {_shown(actual)}"]
    return []


def fill(pattern: Any, values: Mapping[str, Any] | None = None) -> Any:
    """The pattern with real values in place of its placeholders; optional keys are left out."""
    if isinstance(pattern, dict):
        return {key: fill(value, values) for key, value in pattern.items() if not key.endswith("?")}
    if isinstance(pattern, list):
        return [fill(part, values) for part in pattern]
    if not isinstance(pattern, str):
        return pattern
    known = {**SAMPLES, **(values or {})}
    whole = PLACEHOLDER.fullmatch(pattern)
    if whole:
        return known[whole[1]]
    return PLACEHOLDER.sub(lambda found: str(known[found[1]]) if found[1] in known else found[0], pattern)


def _object_differences(pattern: dict[str, Any], actual: Any, where: str) -> list[str]:
    if not isinstance(actual, dict):
        return [f"{where}: wanted an object, got {_shown(actual)}"]
    optional = {key[:-1]: value for key, value in pattern.items() if key.endswith("?")}
    needed = {key: value for key, value in pattern.items() if not key.endswith("?")}
    found = [f"{where}.{key}: missing" for key in needed if key not in actual]
    for key, value in actual.items():
        if key in needed or key in optional:
            found += differences(needed.get(key, optional.get(key)), value, f"{where}.{key}")
        else:
            found.append(f"{where}.{key}: not a field of this API")
    return found


def _text_matches(pattern: str, actual: Any) -> bool:
    whole = PLACEHOLDER.fullmatch(pattern)
    if whole:
        return CHECKS[whole[1]](actual)
    if not isinstance(actual, str):
        return False
    expression, names, end = "", [], 0
    for found in PLACEHOLDER.finditer(pattern):
        if found[1] not in CHECKS:
            continue  # a real tag, such as <body>
        expression += re.escape(pattern[end : found.start()]) + "(.+?)"
        names.append(found[1])
        end = found.end()
    parts = re.fullmatch(expression + re.escape(pattern[end:]), actual, re.DOTALL)
    return parts is not None and all(CHECKS[name](part) for name, part in zip(names, parts.groups(), strict=True))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
