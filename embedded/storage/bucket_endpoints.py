"""`/bucket`: create, list, read, change, empty, delete."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from embedded.storage import bucket_table, errors, names, object_table
from embedded.storage.bodies import CreateBucket, UpdateBucket, read_body
from embedded.storage.context import StorageContext

SORT_COLUMNS = ("id", "name", "created_at", "updated_at")
EMPTY_BATCH = 1000  # objects deleted in one transaction, so that none holds its locks for long


class BucketEndpoints:
    def __init__(self, context: StorageContext) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/bucket", self.list, methods=["GET"]),
            Route("/bucket", self.create, methods=["POST"]),
            Route("/bucket/{bucket_id}", self.read, methods=["GET"]),
            Route("/bucket/{bucket_id}", self.update, methods=["PUT"]),
            Route("/bucket/{bucket_id}", self.delete, methods=["DELETE"]),
            Route("/bucket/{bucket_id}/empty", self.empty, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        caller = self._context.caller(request)
        query = request.query_params
        sort_column = query.get("sortColumn", "name")
        if sort_column not in SORT_COLUMNS:
            raise errors.invalid_request(f"querystring/sortColumn must be one of {', '.join(SORT_COLUMNS)}")
        limit = _whole_number(query.get("limit"), "limit")
        offset = _whole_number(query.get("offset"), "offset")
        async with self._context.acting_as(caller, "storage.bucket.list") as connection:
            buckets = await bucket_table.list_buckets(
                connection,
                search=query.get("search", ""),
                sort_column=sort_column,
                descending=query.get("sortOrder") == "desc",
                limit=limit,
                offset=offset or 0,
            )
        return JSONResponse([bucket.to_json() for bucket in buckets])

    async def create(self, request: Request) -> Response:
        caller = self._context.caller(request)
        body = await read_body(request, CreateBucket)
        bucket_id = body.id or body.name
        names.require_valid_bucket_name(body.name)
        names.require_valid_bucket_name(bucket_id)
        names.require_valid_mime_types(body.allowed_mime_types)
        file_size_limit = names.parse_file_size_limit(body.file_size_limit)
        async with self._context.acting_as(caller, "storage.bucket.create") as connection:
            await bucket_table.insert_bucket(
                connection,
                bucket_id=bucket_id,
                name=body.name,
                owner_id=caller.sub,
                public=bool(body.public),
                file_size_limit=file_size_limit,
                allowed_mime_types=body.allowed_mime_types,
            )
        return JSONResponse({"name": bucket_id})

    async def read(self, request: Request) -> Response:
        caller = self._context.caller(request)
        async with self._context.acting_as(caller, "storage.bucket.get") as connection:
            bucket = await bucket_table.find_bucket(connection, request.path_params["bucket_id"])
        return JSONResponse(bucket.to_json())

    async def update(self, request: Request) -> Response:
        caller = self._context.caller(request)
        body = await read_body(request, UpdateBucket)
        changes: dict[str, Any] = body.model_dump(exclude_unset=True)
        if changes.get("public", False) is None:
            del changes["public"]
        if "file_size_limit" in changes:
            changes["file_size_limit"] = names.parse_file_size_limit(body.file_size_limit)
        names.require_valid_mime_types(body.allowed_mime_types)
        async with self._context.acting_as(caller, "storage.bucket.update") as connection:
            await bucket_table.update_bucket(connection, request.path_params["bucket_id"], changes)
        return JSONResponse({"message": "Successfully updated"})

    async def delete(self, request: Request) -> Response:
        caller = self._context.caller(request)
        async with self._context.acting_as(caller, "storage.bucket.delete") as connection:
            await bucket_table.delete_bucket(connection, request.path_params["bucket_id"])
        return JSONResponse({"message": "Successfully deleted"})

    async def empty(self, request: Request) -> Response:
        """Delete every object that the caller may delete. Hosted projects queue this; here it is done at once."""
        caller = self._context.caller(request)
        bucket_id = request.path_params["bucket_id"]
        async with self._context.acting_as(caller, "storage.bucket.empty") as connection:
            await bucket_table.find_bucket(connection, bucket_id)
        while True:
            async with self._context.acting_as(caller, "storage.bucket.empty") as connection:
                deleted = await object_table.delete_some_objects(connection, bucket_id, EMPTY_BATCH)
            await self._context.files.remove(stored.version for stored in deleted)
            if not deleted:
                break
        message = "Empty bucket has been queued. Completion may take up to an hour."
        return JSONResponse({"message": message})


def _whole_number(text: str | None, name: str) -> int | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    raise errors.invalid_request(f"querystring/{name} must be integer")
