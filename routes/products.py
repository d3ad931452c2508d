"""`GET /product/{id}`: the product as clients watch it, for those who poll."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from domain import MICROS_PER_USD, ProductId, Status
from routes.deps import State

router = APIRouter(tags=["products"])


class Product(BaseModel):
    """The first seven fields are what earlier clients know; none of them will ever go."""

    id: UUID
    title: str | None
    jewellery_type: str | None
    image_url: str | None
    generated_image_urls: list[str]
    created_at: datetime
    updated_at: datetime | None
    status: Status
    progress: dict[str, Any]
    variants: list[dict[str, Any]]
    run_no: int
    raw_image_url: str | None
    error_message: str | None
    cost_usd: float


@router.get("/product/{product_id}")
async def get_product(product_id: UUID, state: State) -> Product:
    """Poll until `status` is final (or, as earlier clients do, until `generated_image_urls` is not empty)."""
    row = await state.database.fetch_product(ProductId(product_id))
    private = row.pop("product_private") or {}
    return Product(**row, cost_usd=private.get("cost_micros", 0) / MICROS_PER_USD)
