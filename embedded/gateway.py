"""The one web server in front of Postgres: four services under the paths of a hosted project."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Mount

from embedded.auth.service import AuthService
from embedded.identity import Identity
from embedded.realtime.service import RealtimeService
from embedded.rest.service import RestService
from embedded.storage.service import StorageService


class Service(Protocol):
    """One of the four services. Its routes are relative to its prefix, such as `/rest/v1`."""

    def routes(self) -> list[BaseRoute]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def create_gateway(*, dsn: str, identity: Identity, files_dir: Path, public_url: str) -> Starlette:
    """The application. `dsn` logs in as the superuser; each service takes the role that it has on a hosted project.

    `files_dir` holds Storage's objects; `public_url` is where clients reach this server, without a trailing slash.
    """
    services: dict[str, Service] = {
        "/rest/v1": RestService(dsn, identity),
        "/auth/v1": AuthService(dsn, identity),
        "/storage/v1": StorageService(dsn, identity, files_dir, public_url),
        "/realtime/v1": RealtimeService(dsn, identity),
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            for service in services.values():
                await service.start()
                running.push_async_callback(service.stop)
            yield

    return Starlette(
        routes=[Mount(prefix, routes=service.routes()) for prefix, service in services.items()],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["*"],
                max_age=3600,
            )
        ],
        lifespan=lifespan,
    )
