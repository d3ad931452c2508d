"""The answer to everything that starts a run, and how a repeated request is recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import Header
from pydantic import BaseModel

OWNER = "api-key"  # until people have accounts, everyone who writes is the holder of the one key
MESSAGE = "Uploaded. Processing started in background."

IdempotencyKey = Annotated[
    str | None,
    Header(description="A repeat with the same key and the same content gets the first answer.", max_length=200),
]


class Started(BaseModel):
    """What is known when the work has only been queued."""

    message: str
    product_id: UUID
    raw_image_url: str | None
    run_id: UUID
    run_no: int


def started(answer: Mapping[str, Any]) -> Started:
    return Started(
        message=MESSAGE,
        product_id=answer["product_id"],
        raw_image_url=answer["raw_image_url"],
        run_id=answer["run_id"],
        run_no=answer["run_no"],
    )


def repeatable_request(key: str, *content: object) -> dict[str, str]:
    """What the database needs to recognise a repeated request."""
    request_hash = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return {"owner": OWNER, "key": key, "request_hash": request_hash}
