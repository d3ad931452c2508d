"""Reading objects: by right, from public buckets, and by signed links.

The image endpoints send the original: the embedded Storage does not transform pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from embedded.identity import Claims
from embedded.storage import bucket_table, errors, file_response, object_table
from embedded.storage.context import StorageContext
from embedded.storage.file_response import FileRangeResponse
from embedded.storage.rows import StoredObject, iso_time

#: Names of the operations of the authenticated endpoints; reading headers or info counts as another one.
_GET, _HEAD, _INFO = (
    "storage.object.get_authenticated",
    "object.head_authenticated_info",
    "object.get_authenticated_info",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a request may look for its object."""

    operation: str
    caller: Claims | None = None  #: whose rights count; None: nobody's, so that only a public bucket answers
    by_link: bool = False  #: a verified link stands in for all rights


class DownloadEndpoints:
    def __init__(self, context: StorageContext) -> None:
        self._context = context

    def routes(self) -> list[BaseRoute]:
        place = "{bucket_id}/{key:path}"
        return [
            Route(f"/object/info/public/{place}", self.public_info, methods=["GET"]),
            Route(f"/object/info/authenticated/{place}", self.authenticated_info, methods=["GET"]),
            Route(f"/object/info/{place}", self.info, methods=["GET"]),
            Route(f"/object/public/{place}", self.public, methods=["GET"]),
            Route(f"/object/authenticated/{place}", self.authenticated, methods=["GET"]),
            Route(f"/object/sign/{place}", self.signed, methods=["GET"]),
            Route(f"/render/image/public/{place}", self.public, methods=["GET"]),
            Route(f"/render/image/authenticated/{place}", self.authenticated, methods=["GET"]),
            Route(f"/render/image/sign/{place}", self.signed, methods=["GET"]),
            Route(f"/object/{place}", self.download, methods=["GET"]),
        ]

    async def public(self, request: Request) -> Response:
        operation = "storage.object.get_public" if request.method == "GET" else "storage.object.info_public"
        return await self._send(request, Access(operation=operation))

    async def authenticated(self, request: Request) -> Response:
        caller = self._context.caller(request)
        return await self._send(request, Access(operation=_get_or_head(request), caller=caller))

    async def download(self, request: Request) -> Response:
        """With a token as `authenticated`; without a good one, public buckets still answer."""
        caller = self._context.caller_if_known(request)
        return await self._send(request, Access(operation=_get_or_head(request), caller=caller))

    async def signed(self, request: Request) -> Response:
        token = self._context.signer.verify(
            request.query_params.get("token", ""),
            request.path_params["bucket_id"],
            request.path_params["key"],
            "download",
        )
        access = Access(operation="storage.object.get_signed", by_link=True)
        return await self._send(request, access, expires_at=token.expires_at)

    async def public_info(self, request: Request) -> Response:
        return await self._send_info(request, Access(operation="storage.object.info_public"))

    async def authenticated_info(self, request: Request) -> Response:
        caller = self._context.caller(request)
        return await self._send_info(request, Access(operation=_INFO, caller=caller))

    async def info(self, request: Request) -> Response:
        caller = self._context.caller_if_known(request)
        return await self._send_info(request, Access(operation=_INFO, caller=caller))

    async def _find(self, request: Request, access: Access) -> StoredObject:
        bucket_id, key = request.path_params["bucket_id"], request.path_params["key"]
        async with self._context.acting_as_service(access.operation) as connection:
            bucket = await bucket_table.find_bucket(connection, bucket_id)
            if access.by_link or bucket.public:
                return await object_table.find_object(connection, bucket_id, key)
        if access.caller is None:
            raise errors.no_such_bucket()
        async with self._context.acting_as(access.caller, access.operation) as connection:
            return await object_table.find_object(connection, bucket_id, key)

    async def _send(self, request: Request, access: Access, *, expires_at: int | None = None) -> Response:
        for _ in range(3):  # the version may be replaced between reading its row and opening its file
            stored = await self._find(request, access)
            headers = file_response.headers_of(stored)
            if expires_at is not None:
                headers["expires"] = file_response.http_time(expires_at)
                del headers["cache-control"]  # it would outlive the link
            if (download := request.query_params.get("download")) is not None:
                headers["content-disposition"] = file_response.content_disposition(download)
            etag = headers["etag"]
            if file_response.matches_etag(request.headers.get("if-none-match"), etag):
                return Response(status_code=304, headers=headers)

            size = stored.size
            part = file_response.requested_range(request.headers, size=size, etag=etag)
            start, length = part or (0, size)
            status_code = 200 if part is None else 206
            headers["content-length"] = str(length)
            if part is not None:
                headers["content-range"] = f"bytes {start}-{start + length - 1}/{size}"
            if request.method == "HEAD":
                return Response(status_code=status_code, headers=headers)
            try:
                file = await self._context.files.open(stored.version)
            except FileNotFoundError:
                continue
            return FileRangeResponse(file, start=start, length=length, status_code=status_code, headers=headers)
        raise errors.no_such_key()

    async def _send_info(self, request: Request, access: Access) -> Response:
        stored = await self._find(request, access)
        metadata = stored.metadata or {}
        return JSONResponse(
            {
                "id": str(stored.id),
                "name": stored.name,
                "version": stored.version,
                "bucket_id": stored.bucket_id,
                "size": stored.size,
                "content_type": metadata.get("mimetype"),
                "cache_control": metadata.get("cacheControl"),
                "etag": metadata.get("eTag"),
                "metadata": stored.user_metadata or {},
                "last_modified": metadata.get("lastModified") or iso_time(stored.updated_at),
                "created_at": iso_time(stored.created_at),
            }
        )


def _get_or_head(request: Request) -> str:
    return _GET if request.method == "GET" else _HEAD
