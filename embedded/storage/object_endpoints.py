"""Everything about objects that moves no bytes through the request: lists, signed links, move, copy, removal."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from embedded.identity import Claims
from embedded.storage import bodies, errors, listing, names, object_table
from embedded.storage.bodies import read_body
from embedded.storage.context import StorageContext
from embedded.storage.incoming import user_metadata_of_header
from embedded.storage.listing import Cursor
from embedded.storage.object_table import NewObject
from embedded.storage.rows import StoredObject, iso_time
from embedded.storage.upload_endpoints import save_version, wants_upsert

MAX_PAGE = 1000  # objects in one answer of list v2
NOT_SIGNED = "Either the object does not exist or you do not have access to it"


class ObjectEndpoints:
    def __init__(self, context: StorageContext) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/object/list/{bucket_id}", self.list_folder, methods=["POST"]),
            Route("/object/list-v2/{bucket_id}", self.list_under_prefix, methods=["POST"]),
            Route("/object/sign/{bucket_id}", self.sign_many, methods=["POST"]),
            Route("/object/sign/{bucket_id}/{key:path}", self.sign, methods=["POST"]),
            Route("/object/move", self.move, methods=["POST"]),
            Route("/object/copy", self.copy, methods=["POST"]),
            Route("/object/{bucket_id}", self.remove_many, methods=["DELETE"]),
            Route("/object/{bucket_id}/{key:path}", self.remove, methods=["DELETE"]),
            Route("/cdn/{bucket_id}", self.purge_cache, methods=["DELETE"]),
            Route("/cdn/{bucket_id}/{key:path}", self.purge_cache, methods=["DELETE"]),
        ]

    async def list_folder(self, request: Request) -> Response:
        caller = self._context.caller(request)
        body = await read_body(request, bodies.ListFolder)
        async with self._context.acting_as(caller, "storage.object.list") as connection:
            page = await listing.list_folder(
                connection,
                request.path_params["bucket_id"],
                prefix=body.prefix,
                search=body.search or "",
                sort_column=body.sort_by.column,
                sort_order=body.sort_by.order,
                limit=body.limit,
                offset=body.offset,
            )
        return JSONResponse(page)

    async def list_under_prefix(self, request: Request) -> Response:
        caller = self._context.caller(request)
        body = await read_body(request, bodies.ListUnderPrefix)
        if body.cursor:
            begin = Cursor.decode(body.cursor)
        else:
            begin = Cursor(sort_column=body.sort_by.column, descending=body.sort_by.order == "desc")
        async with self._context.acting_as(caller, "storage.object.list_v2") as connection:
            page = await listing.list_under_prefix(
                connection,
                request.path_params["bucket_id"],
                prefix=body.prefix,
                with_delimiter=body.with_delimiter,
                limit=min(body.limit, MAX_PAGE),
                begin=begin,
            )
        return JSONResponse(page)

    async def sign(self, request: Request) -> Response:
        caller = self._context.caller(request)
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        names.require_valid_key(key)
        body = await read_body(request, bodies.SignLink)
        async with self._context.acting_as(caller, "storage.object.sign") as connection:
            await object_table.find_object(connection, bucket_id, key)
        transformations = json.dumps(body.transform) if body.transform else None
        token = self._context.signer.sign_download(
            bucket_id, key, expires_in=body.expires_in, transformations=transformations
        )
        place = "render/image" if transformations else "object"
        return JSONResponse({"signedURL": f"/{place}/sign/{bucket_id}/{key}?token={token}"})

    async def sign_many(self, request: Request) -> Response:
        caller = self._context.caller(request)
        bucket_id = request.path_params["bucket_id"]
        body = await read_body(request, bodies.SignLinks)
        async with self._context.acting_as(caller, "storage.object.sign_many") as connection:
            visible = await object_table.find_keys(connection, bucket_id, body.paths)
        answers: list[dict[str, str | None]] = []
        for key in body.paths:
            if key in visible:
                token = self._context.signer.sign_download(bucket_id, key, expires_in=body.expires_in)
                signed_url = f"/object/sign/{bucket_id}/{key}?token={token}"
                answers.append({"error": None, "path": key, "signedURL": signed_url})
            else:
                answers.append({"error": NOT_SIGNED, "path": key, "signedURL": None})
        return JSONResponse(answers)

    async def move(self, request: Request) -> Response:
        """Give an object another key. Its bytes stay where they are: their file is named by the version."""
        caller = self._context.caller(request)
        body = await read_body(request, bodies.MoveObject)
        names.require_valid_key(body.destination_key)
        async with self._context.acting_as(caller, "storage.object.move") as connection:
            stored = await object_table.find_object(connection, body.bucket_id, body.source_key)
            moved = await object_table.move_object(
                connection,
                stored,
                bucket_id=body.destination_bucket or body.bucket_id,
                key=body.destination_key,
                owner_id=caller.sub,
            )
        key = f"{moved.bucket_id}/{moved.name}"
        return JSONResponse({"message": "Successfully moved", "Id": str(moved.id), "Key": key})

    async def copy(self, request: Request) -> Response:
        caller = self._context.caller(request)
        body = await read_body(request, bodies.CopyObject)
        names.require_valid_key(body.destination_key)
        copied = await self._copy(request, caller, body)
        key = f"{copied.bucket_id}/{copied.name}"
        return JSONResponse({"Id": str(copied.id), "Key": key, **copied.to_json()})

    async def remove_many(self, request: Request) -> Response:
        """Names that do not exist, or that the caller may not delete, are silently left out."""
        caller = self._context.caller(request)
        body = await read_body(request, bodies.RemoveObjects)
        async with self._context.acting_as(caller, "storage.object.delete_many") as connection:
            deleted = await object_table.delete_objects(connection, request.path_params["bucket_id"], body.keys)
        await self._context.files.remove(stored.version for stored in deleted)
        return JSONResponse([stored.to_json() for stored in deleted])

    async def remove(self, request: Request) -> Response:
        caller = self._context.caller(request)
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        operation = "storage.object.delete"
        async with self._context.acting_as_service(operation) as connection:
            await object_table.find_object(connection, bucket_id, key)
        async with self._context.acting_as(caller, operation) as connection:
            deleted = await object_table.delete_objects(connection, bucket_id, [key])
        if not deleted:
            raise errors.access_denied()
        await self._context.files.remove(stored.version for stored in deleted)
        return JSONResponse({"message": "Successfully deleted"})

    async def purge_cache(self, request: Request) -> Response:
        """There is no cache between this server and its clients, so nothing is left to do."""
        self._context.caller(request)
        return JSONResponse({"message": "success"})

    async def _copy(self, request: Request, caller: Claims, body: bodies.CopyObject) -> StoredObject:
        operation = "storage.object.copy"
        upsert = wants_upsert(request)
        for _ in range(3):  # the source may be replaced between reading its row and opening its file
            async with self._context.acting_as(caller, operation) as connection:
                source = await object_table.find_object(connection, body.bucket_id, body.source_key)
            changes = {"lastModified": iso_time(datetime.now(UTC))}
            user_metadata = source.user_metadata
            if not body.copy_metadata:
                changes |= body.metadata.model_dump(by_alias=True, exclude_none=True)
                user_metadata = user_metadata_of_header(request)
            new = NewObject(
                bucket_id=body.destination_bucket or body.bucket_id,
                key=body.destination_key,
                owner_id=caller.sub,
                metadata={**(source.metadata or {}), **changes},
                user_metadata=user_metadata,
            )
            async with self._context.acting_as(caller, operation, rollback=True) as connection:
                await object_table.probe_insert(connection, new, upsert=upsert)
            try:
                version = await self._context.files.copy(source.version)
            except FileNotFoundError:
                continue
            return await save_version(self._context, new, version, operation, upsert=upsert)
        raise errors.no_such_key()
