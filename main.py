"""The API: `uvicorn main:app`. Thin: it takes pictures in, writes rows and answers; `worker.py` does the work."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ai_clients import Models, open_models
from byte_budget import ByteBudget
from config import Settings, load_settings
from database import Database
from errors import AppError, BadPictureError, ConfigError, ConflictError, NotFoundError, StoreUnavailableError
from logging_config import configure_logging, log_context
from packs import load_pack
from routes import batch, history, info, process, products, spend, variants
from routes.body_limit import BodyLimit
from routes.deps import ApiState
from shop_records import ShopRecords
from storage import ObjectStore
from supabase_client import connect_supabase
from transport import build_http_client

log = logging.getLogger("api")

VERSION = "0.1.0"
PATIENCE_S = 3.0  # a browser waits: better a clear 503 soon than an answer late
RETRY_AFTER_S = 5
FORM_BYTES = 64_000  # what a form may weigh besides its file


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        load_pack(settings.scene_pack)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(build_http_client())
            client = await connect_supabase(settings, http)
            app.state.vitrine = ApiState(
                settings=settings,
                database=Database(client, patience_s=PATIENCE_S),
                records=ShopRecords(client, patience_s=PATIENCE_S),
                store=ObjectStore(client, settings, patience_s=PATIENCE_S),
                memory=ByteBudget(settings.memory_budget_mb * 1_000_000),
                models=await _models_for_prices(settings, http, stack),
            )
            await app.state.vitrine.database.check_schema()
            for bucket in {settings.raw_bucket_name, settings.processed_bucket_name}:
                await app.state.vitrine.store.ensure_bucket(bucket)
            log.info("api.started", extra={"environment": settings.environment})
            yield

    app = FastAPI(
        title="Vitrine",
        version=VERSION,
        description="One photograph in; storefront-ready pictures out, on the shop's own Supabase.",
        lifespan=lifespan,
    )
    app.include_router(info.router)
    app.include_router(batch.router)  # before the route that would take "batch" for an id
    app.include_router(process.router)
    app.include_router(variants.router)
    app.include_router(products.router)
    app.include_router(history.router)
    app.include_router(spend.router)
    _add_error_handlers(app)
    # The last one added stands outermost.
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_upload_bytes + FORM_BYTES,
        by_path={batch.PATH: batch.MAX_FILES * settings.max_upload_bytes + FORM_BYTES},
        max_file_mb=settings.max_upload_mb,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.trusted_hosts))
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key"],
        expose_headers=["X-Request-Id"],
    )
    app.middleware("http")(_log_request)
    return app


async def _models_for_prices(settings: Settings, http: httpx.AsyncClient, stack: AsyncExitStack) -> Models | None:
    """The models, which the API only asks for their prices; None when it has not got their keys, which it may lack."""
    try:
        return await stack.enter_async_context(open_models(settings, http))
    except ConfigError as error:
        log.warning("api.prices_unknown", extra={"reason": str(error)})
        return None


def _add_error_handlers(app: FastAPI) -> None:
    """Every error answers `{"detail": ...}` with the status that says what the client can do."""

    @app.exception_handler(AppError)
    async def on_app_error(_request: Request, error: AppError) -> JSONResponse:
        match error:
            case BadPictureError():
                return JSONResponse({"detail": str(error)}, error.status)
            case NotFoundError():
                return JSONResponse({"detail": str(error)}, 404)
            case ConflictError():
                run = {"run_id": error.run_id} if error.run_id else {}
                return JSONResponse({"detail": str(error), **run}, 409)
            case StoreUnavailableError():
                return JSONResponse({"detail": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})
            case _:
                log.error("request.failed", exc_info=error)
                return JSONResponse({"detail": "Something went wrong inside Vitrine."}, 500)

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(_request: Request, error: RequestValidationError) -> JSONResponse:
        problems = [f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in error.errors()]
        return JSONResponse({"detail": "; ".join(problems)}, 422)

    @app.exception_handler(Exception)
    async def on_crash(_request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "Something went wrong inside Vitrine."}, 500)


async def _log_request(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """One line a request; its id is in the answer's X-Request-Id."""
    request_id, started = uuid4().hex, time.monotonic()
    with log_context(request_id=request_id):
        response = await call_next(request)
        route = request.scope.get("route")
        log.info(
            "request.answered",
            extra={
                "method": request.method,
                "route": getattr(route, "path", "none"),
                "status": response.status_code,
                "duration_s": round(time.monotonic() - started, 4),
            },
        )
    response.headers["X-Request-Id"] = request_id
    return response


def __getattr__(name: str) -> Any:
    """Builds `app` when the server asks for it, so that importing `create_app` reads no environment."""
    if name != "app":
        raise AttributeError(name)
    try:
        settings = load_settings()
        load_pack(settings.scene_pack)
    except ConfigError as error:
        sys.exit(f"Vitrine's API cannot start: {error}")
    configure_logging(settings.log_level, service="api")
    return create_app(settings)
