"""The Storage service: its routes, its connections, and how its errors are answered."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from embedded.database import dsn_as, open_pool
from embedded.identity import Identity
from embedded.storage import errors
from embedded.storage.bucket_endpoints import BucketEndpoints
from embedded.storage.context import StorageContext
from embedded.storage.download_endpoints import DownloadEndpoints
from embedded.storage.errors import StorageError
from embedded.storage.files import FileStore
from embedded.storage.object_endpoints import ObjectEndpoints
from embedded.storage.signing import LinkSigner
from embedded.storage.upload_endpoints import UploadEndpoints

POOL_SIZE = 10  # connections; each is held for single statements, never while bytes travel


class StorageService:
    """Supabase Storage on the local disk.

    `files_dir` is created when missing and belongs to this service alone. `public_url` is part of the signature
    that all services share; Storage's links are relative to it, so it is not needed here.
    """

    def __init__(self, dsn: str, identity: Identity, files_dir: Path, public_url: str) -> None:
        self._context = StorageContext(
            identity=identity,
            pool=open_pool(dsn_as(dsn, "supabase_storage_admin"), max_size=POOL_SIZE),
            files=FileStore(files_dir),
            signer=LinkSigner(identity.jwt_secret),
        )

    async def start(self) -> None:
        await asyncio.to_thread(self._context.files.prepare)
        await self._context.pool.open()

    async def stop(self) -> None:
        await self._context.pool.close()

    def routes(self) -> list[BaseRoute]:
        """The routes below `/storage/v1`, in an application of their own, so that all errors get Storage's form."""
        application = Starlette(
            routes=[
                Route("/status", answer_status, methods=["GET"]),
                Route("/version", answer_status, methods=["GET"]),
                Route("/upload/resumable", refuse_resumable, methods=["POST", "PATCH", "HEAD", "DELETE"]),
                Route("/upload/resumable/{rest:path}", refuse_resumable, methods=["POST", "PATCH", "HEAD", "DELETE"]),
                *BucketEndpoints(self._context).routes(),
                *ObjectEndpoints(self._context).routes(),
                *DownloadEndpoints(self._context).routes(),
                *UploadEndpoints(self._context).routes(),
            ],
            exception_handlers={
                StorageError: answer_storage_error,
                HTTPException: answer_unknown_route,
                Exception: answer_internal_error,
            },
        )
        return [Mount("", app=application)]


async def answer_status(request: Request) -> Response:
    return JSONResponse({})


async def refuse_resumable(request: Request) -> Response:
    return errors.not_implemented("Resumable upload").to_response()


async def answer_storage_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorageError)
    return error.to_response()


async def answer_unknown_route(request: Request, error: Exception) -> Response:
    return errors.unknown_route(request.method, request.url.path).to_response()


async def answer_internal_error(request: Request, error: Exception) -> Response:
    return errors.internal_error().to_response()
