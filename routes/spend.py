"""`GET /spend`: what the days cost, and what is left of today. For the shop alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from domain import MICROS_PER_USD
from routes.deps import ApiState, ShopOnly, State

router = APIRouter(tags=["spend"], dependencies=[ShopOnly])

WARN_AT = 0.8  # of a limit; `maintenance_v1` logs a warning there too


class Spent(BaseModel):
    spent_usd: float  #: settled; calls whose charge nobody can know count with their estimate
    reserved_usd: float  #: by calls under way


class Budget(Spent):
    limit_usd: float | None
    warn: bool  #: at least 80 % of the limit is spent or reserved


class BudgetOfDay(Budget):
    day: date  #: UTC
    remaining_usd: float | None  #: null without a limit
    resets_at: datetime


class ProviderOfDay(Spent):
    provider: str
    calls: int
    unknown: int  #: of them, those whose charge nobody can know


class OwnerOfDay(Budget):
    owner: str


class DayOfSpend(BudgetOfDay):
    calls: int
    unknown: int
    providers: list[ProviderOfDay]
    owners: list[OwnerOfDay]


class Spend(BaseModel):
    days: list[DayOfSpend]  #: newest first; the first is today


@router.get("/spend")
async def spend(state: State, days: Annotated[int, Query(ge=1, le=92)] = 7) -> Spend:
    """Per UTC day and provider: calls, costs and the limits that hold."""
    rows = await state.records.spend(days)
    today = _day(rows[0], state.settings.budget_limits_micros)
    return Spend(days=[today, *(_day(row) for row in rows[1:])])


async def budget_of_day(state: ApiState) -> BudgetOfDay:
    """What is left of today."""
    [today] = await state.records.spend(1)
    day = _day(today, state.settings.budget_limits_micros)
    return BudgetOfDay(**{name: getattr(day, name) for name in BudgetOfDay.model_fields})


def _day(row: Mapping[str, Any], limits_now: Mapping[str, int] | None = None) -> DayOfSpend:
    """Past days are shown with the limits that held then, today with those that hold now."""

    def limit_of(scope: str, then: int | None) -> int | None:
        return then if limits_now is None else limits_now.get(scope)

    providers = [
        ProviderOfDay(
            provider=each["provider"], calls=each["calls"], unknown=each["unknown"], **_spent(each).model_dump()
        )
        for each in row["providers"]
    ]
    spent_micros = sum(each["spent_micros"] for each in row["providers"])
    reserved_micros = sum(each["reserved_micros"] for each in row["providers"])
    total = {"spent_micros": spent_micros, "reserved_micros": reserved_micros}
    budget = _budget(total, limit_of("day", row["limit_micros"]))
    left = None if budget.limit_usd is None else budget.limit_usd - budget.spent_usd - budget.reserved_usd
    return DayOfSpend(
        **budget.model_dump(),
        day=row["day"],
        remaining_usd=None if left is None else round(max(left, 0), 6),
        resets_at=row["resets_at"],
        calls=sum(each.calls for each in providers),
        unknown=sum(each.unknown for each in providers),
        providers=providers,
        owners=[
            OwnerOfDay(owner=each["owner"], **_budget(each, limit_of("owner", each["limit_micros"])).model_dump())
            for each in row["owners"]
        ],
    )


def _spent(row: Mapping[str, Any]) -> Spent:
    return Spent(spent_usd=row["spent_micros"] / MICROS_PER_USD, reserved_usd=row["reserved_micros"] / MICROS_PER_USD)


def _budget(row: Mapping[str, Any], limit: int | None) -> Budget:
    used = row["spent_micros"] + row["reserved_micros"]
    return Budget(
        **_spent(row).model_dump(),
        limit_usd=None if limit is None else limit / MICROS_PER_USD,
        warn=limit is not None and used >= WARN_AT * limit,
    )
