"""Wiring: the routes of both providers and the control API around one `Sandbox`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox import control, nanobanana, reve
from sandbox.sandbox import Sandbox
from sandbox.task_runner import TaskRunner
from sandbox.tasks import TaskStore


def create_app(sandbox: Sandbox) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.sandbox = sandbox
        app.state.store = TaskStore(sandbox.data_dir)
        app.state.runner = TaskRunner(sandbox, app.state.store)
        app.state.runner.start()
        yield
        await app.state.runner.stop()
        sandbox.close()

    return Starlette(
        routes=[Route("/", _about), *reve.ROUTES, *nanobanana.ROUTES, *control.ROUTES],
        exception_handlers=control.EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


async def _about(_request: Request) -> Response:
    return PlainTextResponse(
        "Vitrine sandbox. It speaks the wire of hosted model APIs and does classical image processing;\n"
        "it is not a model, and what it makes is not what a model would make. See sandbox/README.md.\n"
    )
