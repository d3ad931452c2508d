"""`GET /` says what this is, `GET /health` how it is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from routes.deps import State

router = APIRouter(tags=["info"])


@router.get("/")
async def about() -> dict[str, Any]:
    """What runs here and where to go on."""
    return {
        "name": "Vitrine",
        "description": "One photograph in; storefront-ready pictures out.",
        "docs": "/docs",
        "health": "/health",
        "process": "POST /process",
    }


@router.get("/health")
async def health(state: State) -> dict[str, Any]:
    """`status` is ok while Supabase answers (503 otherwise); besides, the queue and the workers alive."""
    queue = await state.database.queue_health()
    workers = queue.pop("workers")
    return {
        "status": "ok",
        "environment": state.settings.environment,
        "queue": queue,
        "workers": {"alive": workers},
    }
