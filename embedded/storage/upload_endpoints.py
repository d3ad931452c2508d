"""Uploads: new objects, replacements, and uploads by a signed link.

The order that keeps rows and bytes in step: prove the right to write with an insert that is rolled back, take the
bytes under a new version's name, let the row point at it, remove the bytes it pointed at before.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from embedded.identity import Claims
from embedded.storage import bucket_table, errors, names, object_table
from embedded.storage.context import StorageContext
from embedded.storage.files import StoredFile
from embedded.storage.incoming import IncomingFile, read_incoming_file
from embedded.storage.object_table import NewObject
from embedded.storage.rows import StoredObject, iso_time
from embedded.storage.transactions import SERVICE


class UploadEndpoints:
    def __init__(self, context: StorageContext) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/object/upload/sign/{bucket_id}/{key:path}", self.sign, methods=["POST"]),
            Route("/object/upload/sign/{bucket_id}/{key:path}", self.upload_signed, methods=["PUT"]),
            Route("/object/{bucket_id}/{key:path}", self.create, methods=["POST"]),
            Route("/object/{bucket_id}/{key:path}", self.update, methods=["PUT"]),
        ]

    async def create(self, request: Request) -> Response:
        caller = self._context.caller(request)
        stored = await self._upload(
            request, caller, "storage.object.upload", owner_id=caller.sub, upsert=wants_upsert(request)
        )
        return JSONResponse({"Id": str(stored.id), "Key": f"{stored.bucket_id}/{stored.name}"})

    async def update(self, request: Request) -> Response:
        """Replace an object; when it is missing, create it."""
        caller = self._context.caller(request)
        stored = await self._upload(request, caller, "storage.object.upload_update", owner_id=caller.sub, upsert=True)
        return JSONResponse({"Id": str(stored.id), "Key": f"{stored.bucket_id}/{stored.name}"})

    async def sign(self, request: Request) -> Response:
        """A link with which anybody may upload this one object within two hours."""
        caller = self._context.caller(request)
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        upsert = wants_upsert(request)
        names.require_valid_key(key)
        new = NewObject(bucket_id=bucket_id, key=key, owner_id=caller.sub, metadata={}, user_metadata=None)
        async with self._context.acting_as(caller, "storage.object.sign_upload_url", rollback=True) as connection:
            await object_table.probe_insert(connection, new, upsert=upsert)
        token = self._context.signer.sign_upload(bucket_id, key, owner=caller.sub, upsert=upsert)
        return JSONResponse({"url": f"/object/upload/sign/{bucket_id}/{key}?token={token}", "token": token})

    async def upload_signed(self, request: Request) -> Response:
        """Upload by such a link; the right was proved when it was signed."""
        token = self._context.signer.verify(
            request.query_params.get("token", ""),
            request.path_params["bucket_id"],
            request.path_params["key"],
            "upload",
        )
        stored = await self._upload(
            request, SERVICE, "storage.object.upload_signed", owner_id=token.owner, upsert=token.upsert
        )
        return JSONResponse({"Key": f"{stored.bucket_id}/{stored.name}"})

    async def _upload(
        self, request: Request, claims: Claims, operation: str, *, owner_id: str | None, upsert: bool
    ) -> StoredObject:
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        names.require_valid_key(key)
        async with self._context.acting_as_service(operation) as connection:
            bucket = await bucket_table.find_bucket(connection, bucket_id)
        max_size = min(bucket.file_size_limit or names.FILE_SIZE_LIMIT, names.FILE_SIZE_LIMIT)
        incoming = await read_incoming_file(request, max_size=max_size)
        names.require_allowed_mime_type(incoming.mime_type, bucket.allowed_mime_types)

        announced = NewObject(
            bucket_id=bucket_id,
            key=key,
            owner_id=owner_id,
            metadata={"mimetype": incoming.mime_type, "contentLength": incoming.content_length},
            user_metadata=incoming.user_metadata,
        )
        async with self._context.acting_as(claims, operation, rollback=True) as connection:
            await object_table.probe_insert(connection, announced, upsert=upsert)
        file = await self._context.files.write(incoming.chunks, max_size=max_size)
        new = NewObject(
            bucket_id=bucket_id,
            key=key,
            owner_id=owner_id,
            metadata=object_metadata(incoming, file),
            user_metadata=incoming.user_metadata,
        )
        return await save_version(self._context, new, file.version, operation, upsert=upsert)


async def save_version(
    context: StorageContext, new: NewObject, version: str, operation: str, *, upsert: bool
) -> StoredObject:
    """Let the row point at a version whose bytes are stored, and remove the bytes that nobody points at any more."""
    try:
        async with context.acting_as_service(operation) as connection:
            stored, replaced = await object_table.save_object(connection, new, version, upsert=upsert)
    except errors.StorageError as error:
        if error.status < 500:  # else the connection may have broken after the commit, and the bytes be needed
            await context.files.remove([version])
        raise
    await context.files.remove([replaced])
    return stored


def wants_upsert(request: Request) -> bool:
    return request.headers.get("x-upsert") == "true"


def object_metadata(incoming: IncomingFile, file: StoredFile) -> dict[str, Any]:
    """The column `metadata`, in the words of the S3 answers it was modelled on."""
    return {
        "eTag": file.etag,
        "size": file.size,
        "mimetype": incoming.mime_type,
        "cacheControl": incoming.cache_control,
        "lastModified": iso_time(datetime.now(UTC)),
        "contentLength": file.size,
        "httpStatusCode": 200,
    }
