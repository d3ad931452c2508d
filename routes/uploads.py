"""Takes a multipart upload in: spooled to disk while it streams, judged, and stored."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile

import pictures
from domain import Picture, ProductId
from errors import BadPictureError
from picture_formats import FileBytes
from routes.deps import ApiState

FORM_TIMEOUT_S = 120  # for a whole upload: 10 MB at 0.7 Mbit/s
MAX_FIELDS = 20
MAX_FIELD_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedUpload:
    """A picture that we take, not stored yet."""

    picture: Picture
    sha256: str


@asynccontextmanager
async def read_form(
    request: Request, *, max_files: int = 1, timeout_s: int = FORM_TIMEOUT_S
) -> AsyncIterator[FormData]:
    """The form, each file spooled to disk beyond a megabyte. A body that only drips in is cut off."""
    try:
        async with asyncio.timeout(timeout_s):
            form = await request.form(max_files=max_files, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES)
    except TimeoutError:
        raise HTTPException(408, f"The upload took longer than {timeout_s} seconds.") from None
    try:
        yield form
    finally:
        await form.close()


def text_field(form: FormData, name: str, *, longest: int) -> str | None:
    """A text of the form, trimmed; None when it is missing or empty."""
    value = form.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise HTTPException(422, f"{name}: must be text, not a file.")
    value = value.strip()
    if len(value) > longest:
        raise HTTPException(422, f"{name}: at most {longest} characters.")
    if "\x00" in value:
        raise HTTPException(422, f"{name}: must not contain NUL characters.")
    return value or None


def file_field(form: FormData) -> UploadFile | None:
    """The picture of the form; None when there is none."""
    value = form.get("file")
    if value is None or value == "":
        return None
    if not isinstance(value, UploadFile):
        raise HTTPException(422, "file: must be a file.")
    return value


@asynccontextmanager
async def judged_upload(state: ApiState, file: UploadFile) -> AsyncIterator[JudgedUpload]:
    """The picture in memory, with room for it set aside.

    Raises:
        BadPictureError: It is not one that we take.
    """
    settings, size = state.settings, file.size or 0
    if size > settings.max_upload_bytes:
        message = f"The file is too large: at most {settings.max_upload_mb:g} MB are accepted."
        raise BadPictureError(message, status=413)
    async with state.memory.holding(2 * size):  # the cleaned picture, and once more while it is sent on
        picture = await asyncio.to_thread(
            pictures.check_upload,
            _on_disk(file),
            max_pixels=settings.max_pixels,
            max_side=settings.max_side_px,
        )
        if min(picture.width, picture.height) < pictures.MIN_SIDE:
            size_text = f"{picture.width} × {picture.height}"
            raise BadPictureError(f"The picture is only {size_text} pixels: a side needs {pictures.MIN_SIDE} or more.")
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(picture.content).hexdigest())
        yield JudgedUpload(picture=picture, sha256=sha256)


def _on_disk(file: UploadFile) -> FileBytes:
    """The upload's bytes where they were spooled to. The map closes itself with its last user."""
    return mmap(file.file.fileno(), 0, access=ACCESS_READ) if file.size else b""


async def store_upload(state: ApiState, upload: JudgedUpload, product_id: ProductId) -> dict[str, Any]:
    """Put the picture into Storage under a name of its own; returns what the database keeps of it."""
    picture, bucket = upload.picture, state.settings.raw_bucket_name
    key = state.store.raw_key(product_id, upload.sha256)
    await state.store.upload(bucket, key, picture.content, picture.media_type)
    return {
        "bucket": bucket,
        "key": key,
        "url": state.store.public_url(bucket, key),
        "media_type": picture.media_type,
        "sha256": upload.sha256,
        "bytes": len(picture.content),
        "width": picture.width,
        "height": picture.height,
    }
