"""A product as clients watch it, and what can be done to it as a whole."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel

from domain import MICROS_PER_USD, ProductId, Status
from errors import StoreUnavailableError
from routes.deps import ShopOnly, State

log = logging.getLogger("api")
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


class ProductPage(BaseModel):
    items: list[Product]
    next_cursor: str | None  #: for the page after this one; null on the last


@router.get("/products", dependencies=[ShopOnly])
async def list_products(
    state: State,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=200)] = None,
    status: Status | None = None,
) -> ProductPage:
    """All products, newest first. New ones never shift a page that was begun."""
    after = _read_cursor(cursor) if cursor else None
    rows = await state.records.list_products(limit + 1, status=status, after=after)
    page = rows[:limit]
    return ProductPage(
        items=[Product(**row, cost_usd=row["cost_micros"] / MICROS_PER_USD) for row in page],
        next_cursor=_cursor_after(page[-1]) if len(rows) > limit else None,
    )


def _cursor_after(row: Mapping[str, Any]) -> str:
    """A place in the list, opaque to clients: when the row was made, and its id among those made at once."""
    return base64.urlsafe_b64encode(f"{row['created_at']} {row['id']}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, ProductId]:
    try:
        time, _, product_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        return datetime.fromisoformat(time), ProductId(UUID(product_id))
    except ValueError:
        raise HTTPException(422, "cursor: must be the next_cursor of an earlier page.") from None


class Cancelled(BaseModel):
    product_id: UUID
    run_id: UUID
    status: Literal["cancelled", "cancelling"]


@router.post("/product/{product_id}/cancel", dependencies=[ShopOnly], responses={202: {"model": Cancelled}})
async def cancel_product(product_id: UUID, state: State, response: Response) -> Cancelled:
    """Stop what is being done to a product: at once (200), or as soon as what is paid for is stored (202).

    What is finished is kept; processing it again buys only the rest. Repeating this changes nothing.
    """
    answer = await state.database.cancel_run(ProductId(product_id))
    if answer["status"] == "cancelling":
        response.status_code = 202
    return Cancelled(product_id=product_id, **answer)


class Deleted(BaseModel):
    deleted: UUID
    objects: int


@router.delete("/product/{product_id}", dependencies=[ShopOnly])
async def delete_product(product_id: UUID, state: State) -> Deleted:
    """Delete a product with all its pictures, whatever is being done to it. What was spent on it stays on record."""
    objects = await state.database.delete_product(ProductId(product_id))
    log.info("product.deleted", extra={"product_id": str(product_id), "objects": len(objects)})
    try:
        await state.store.remove(objects)
        await state.database.objects_removed(objects)
    except StoreUnavailableError:  # the database remembers them, and a worker removes them later
        log.warning("product.objects_left", extra={"product_id": str(product_id)})
    return Deleted(deleted=product_id, objects=len(objects))
