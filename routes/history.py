"""What was done to a product, and what each request to a provider cost. For the shop alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel

from domain import MICROS_PER_USD, ProductId, Status
from routes.deps import ShopOnly, State

router = APIRouter(tags=["history"], dependencies=[ShopOnly])


class Call(BaseModel):
    """A line of the ledger: one request to a provider."""

    step: str
    provider: str
    model: str
    state: Literal["intended", "sent", "done", "failed", "unknown"]
    cost_usd: float | None  #: what it cost; null while it is not settled
    cost_source: Literal["reported", "estimated"] | None
    reserved_usd: float
    latency_s: float | None
    created_at: datetime
    error_code: str | None


class Run(BaseModel):
    run_id: UUID
    run_no: int
    recipe: str
    params: dict[str, Any]
    pack: str | None
    status: Status
    attempts: int
    deferrals: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    processing_time: float | None  #: seconds from the first start to the end
    error_code: str | None
    error_message: str | None
    calls: list[Call]
    cost_usd: float  #: of its settled calls
    open_usd: float  #: reserved by calls that are not settled


class Runs(BaseModel):
    product_id: UUID
    runs: list[Run]  #: newest first
    cost_usd: float
    open_usd: float


@router.get("/product/{product_id}/runs")
async def runs_of_product(product_id: UUID, state: State, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> Runs:
    """The latest runs of a product with every request that was paid for, and the totals of what is listed."""
    runs = [_run(row) for row in await state.records.runs_of_product(ProductId(product_id), limit)]
    return Runs(
        product_id=product_id,
        runs=runs,
        cost_usd=_sum(run.cost_usd for run in runs),
        open_usd=_sum(run.open_usd for run in runs),
    )


def _run(row: Mapping[str, Any]) -> Run:
    calls = [_call(call) for call in row["calls"]]
    known = {name: row[name] for name in Run.model_fields if name in row and name != "calls"}
    return Run(
        **known,
        run_id=row["id"],
        calls=calls,
        cost_usd=_sum(call.cost_usd or 0 for call in calls),
        open_usd=_sum(call.reserved_usd for call in calls if call.cost_usd is None),
    )


def _call(row: Mapping[str, Any]) -> Call:
    settled = row["settled_micros"]
    return Call(
        **{name: row[name] for name in Call.model_fields if name in row},
        step=row["step_name"],
        cost_usd=None if settled is None else settled / MICROS_PER_USD,
        reserved_usd=row["reserved_micros"] / MICROS_PER_USD,
    )


def _sum(amounts: Iterable[float]) -> float:
    return round(sum(amounts), 6)  # whole micro-dollars
