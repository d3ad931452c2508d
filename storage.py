"""Object keys (all made here), uploads, downloads and links: the bytes' side of Supabase."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from storage3.exceptions import StorageApiError
from supabase import AsyncClient

from config import Settings
from domain import CallId, ObjectKey, ProductId, StoredAt
from errors import NotFoundError, StoreUnavailableError
from supabase_client import NO_ANSWER, patiently

ONE_YEAR_S = "31536000"  # keys are immutable, so caches may keep what they have
HASH_DIGITS = 12  # enough to tell the objects of one product apart
MAX_REMOVED_AT_ONCE = 1000  # names in one request, as many as Storage takes in its other lists
SERVER_TROUBLE = {"429", "500", "502", "503", "504", "544"}  # 544: Storage's own database did not answer
ANSWER_WITHIN_S = 180.0  # the whole exchange: 50 MB at 300 kB/s, and an end for a drip
READS_OF_DAMAGED = 3  # what came is not what was stored: a spoiled answer is read again, a spoiled object stays one


class ObjectStore:
    """Supabase Storage. `patience_s`: seconds for which a call is repeated while Supabase does not answer."""

    def __init__(self, client: AsyncClient, settings: Settings, *, patience_s: float) -> None:
        self._storage = client.storage
        self._settings = settings
        self._patience_s = patience_s

    # -- keys: the names that earlier clients know, plus a part that makes each object's name its own

    def raw_key(self, product_id: ProductId, sha256: str) -> ObjectKey:
        """Always `.jpg`, whatever was uploaded; the content type tells the truth."""
        return ObjectKey(f"{self._settings.raw_storage_folder}/{product_id}-{sha256[:HASH_DIGITS]}.jpg")

    def intermediate_key(self, product_id: ProductId, maker: str, call_id: CallId) -> ObjectKey:
        """Of a picture on the way to the scenes; `maker` is the provider for a cut-out, else the step."""
        folder = self._settings.raw_storage_folder
        return ObjectKey(f"{folder}/temp/{maker}_{product_id}-{call_id.hex[:HASH_DIGITS]}.png")

    def scene_key(self, product_id: ProductId, place: int, call_id: CallId) -> ObjectKey:
        """Of a finished scene, whose `place` counts from 1."""
        folder = self._settings.processed_storage_folder
        return ObjectKey(f"{folder}/{product_id}_v{place}-{call_id.hex[:HASH_DIGITS]}.png")

    # -- bytes

    async def upload(self, bucket: str, key: ObjectKey, content: bytes, media_type: str) -> None:
        """Store an object. One that is there already is the same one: success."""

        async def attempt() -> None:
            options = {"content-type": media_type, "cache-control": ONE_YEAR_S}
            async with _translated_errors():
                try:
                    await self._storage.from_(bucket).upload(key, content, options)  # type: ignore[arg-type]
                except StorageApiError as error:
                    if str(error.status) != "409":
                        raise

        await patiently(attempt, patience_s=self._patience_s)

    async def download(self, bucket: str, key: ObjectKey, *, sha256: str | None = None) -> bytes:
        """The whole object.

        Args:
            sha256: Of the content, 64 hex digits, where it is known.

        Raises:
            NotFoundError: There is none, or it is another one.
        """

        async def attempt() -> bytes:
            async with _translated_errors():
                return await self._storage.from_(bucket).download(key)

        for _ in range(READS_OF_DAMAGED):
            content = await patiently(attempt, patience_s=self._patience_s)
            if sha256 is None or sha256 == await asyncio.to_thread(_sha256, content):
                return content
        raise NotFoundError("The picture in Storage is damaged.")

    async def remove(self, objects: Sequence[StoredAt]) -> int:
        """Remove objects, those of a bucket in one call; returns how many there were. Repeating it is no error."""
        removed = 0
        for bucket in sorted({item.bucket for item in objects}):
            keys = [item.key for item in objects if item.bucket == bucket]
            for start in range(0, len(keys), MAX_REMOVED_AT_ONCE):
                removed += await self._remove_from(bucket, keys[start : start + MAX_REMOVED_AT_ONCE])
        return removed

    async def _remove_from(self, bucket: str, keys: Sequence[ObjectKey]) -> int:
        async def attempt() -> int:
            async with _translated_errors():
                return len(await self._storage.from_(bucket).remove(list(keys)))

        return await patiently(attempt, patience_s=self._patience_s)

    async def ensure_bucket(self, bucket: str) -> None:
        """Make the bucket, public, if a name was configured that no migration knows."""

        async def attempt() -> None:
            async with _translated_errors():
                try:
                    await self._storage.get_bucket(bucket)
                except StorageApiError as error:
                    if str(error.status) != "404":
                        raise
                    await self._storage.create_bucket(bucket, options={"public": True})

        await patiently(attempt, patience_s=self._patience_s)

    # -- links

    def public_url(self, bucket: str, key: ObjectKey) -> str:
        """Where everybody finds an object of a public bucket."""
        return f"{self._settings.public_url}/storage/v1/object/public/{bucket}/{key}"

    async def signed_url(self, bucket: str, key: ObjectKey, *, lifetime_s: int) -> str:
        """A link for a provider. Never stored, never logged."""

        async def attempt() -> str:
            async with _translated_errors():
                answer = await self._storage.from_(bucket).create_signed_url(key, lifetime_s)
                _, _, path = (answer["signedURL"] or "").partition("/storage/v1/")
                return f"{self._settings.public_url}/storage/v1/{path}"

        return await patiently(attempt, patience_s=self._patience_s)


@asynccontextmanager
async def _translated_errors() -> AsyncIterator[None]:
    """Storage's errors as ours: not there, or not answering. Others are faults of ours and pass."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            yield
    except StorageApiError as error:
        status = str(error.status)  # of the body: the HTTP status is 400 for nearly everything
        if status == "404":
            raise NotFoundError("The picture is not in Storage.") from error
        if status in SERVER_TROUBLE or error.code in ("InternalError", "LibraryError"):
            raise StoreUnavailableError("Supabase Storage does not answer.") from error
        raise
    except (*NO_ANSWER, ValueError, KeyError) as error:  # the last two: a success, but not in Storage's words
        raise StoreUnavailableError("Supabase Storage does not answer.") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
