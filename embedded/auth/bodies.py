"""Request bodies of the Auth service."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from embedded.auth.errors import bad_json, validation_failed


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request; empty when it has no body."""
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        raise bad_json() from None
    if not isinstance(body, dict):
        raise bad_json()
    return body


def metadata_of(body: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise validation_failed(f"{name} must be an object")
    return value
