"""An upload request in either of the clients' forms, up to the point where the bytes of its file begin.

storage3 always sends a form, with the file named `file`; storage-js sends a form for a Blob (the file's name is
empty) and a raw body for everything else. Source: github.com/supabase/storage, src/storage/uploader.ts, 2026-11-20.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request

from embedded.storage import errors
from embedded.storage.multipart import FIELDS_LIMIT, UploadForm

DEFAULT_MIME_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingFile:
    """What is known of an upload before its bytes are taken."""

    mime_type: str
    cache_control: str  #: the header it will be served with
    user_metadata: dict[str, Any] | None
    content_length: int | None  #: of the request in bytes, if it says
    chunks: AsyncIterator[bytes]  #: the bytes themselves, to be read once


async def read_incoming_file(request: Request, *, max_size: int) -> IncomingFile:
    """Read the request as far as the file's first bytes.

    Raises:
        StorageError: The request says that it is longer than `max_size` allows, or its form is broken.
    """
    content_type = request.headers.get("content-type", "")
    content_length = _content_length(request)
    is_form = content_type.lower().startswith("multipart/form-data")
    overhead = FIELDS_LIMIT if is_form else 0
    if content_length is not None and content_length > max_size + overhead:
        raise errors.entity_too_large()

    body = _body(request)
    if not is_form:
        return IncomingFile(
            mime_type=content_type or DEFAULT_MIME_TYPE,
            cache_control=request.headers.get("cache-control", "no-cache"),
            user_metadata=user_metadata_of_header(request),
            content_length=content_length,
            chunks=body,
        )
    form = UploadForm(content_type, body)
    await form.read_fields()
    seconds = form.fields.get("cacheControl")
    return IncomingFile(
        mime_type=form.fields.get("contentType") or form.file_content_type or DEFAULT_MIME_TYPE,
        cache_control=f"max-age={seconds}" if seconds else "no-cache",
        user_metadata=_json_object(form.fields.get("metadata") or form.fields.get("userMetadata")),
        content_length=content_length,
        chunks=form.file_chunks(),
    )


def user_metadata_of_header(request: Request) -> dict[str, Any] | None:
    """The caller's own metadata, which comes as base64 of JSON in the header `x-metadata`."""
    try:
        return _json_object(base64.b64decode(request.headers.get("x-metadata", "")))
    except ValueError:
        return None


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise errors.invalid_request("Request stream closed before upload could complete") from error


def _content_length(request: Request) -> int | None:
    header = request.headers.get("content-length", "")
    return int(header) if header.isdecimal() else None


def _json_object(text: str | bytes | None) -> dict[str, Any] | None:
    """Metadata that is no JSON object is dropped, as Storage does."""
    try:
        parsed = json.loads(text or "null")
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
