"""`dry_run=true`: what a run would cost, in place of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel

from domain import MICROS_PER_USD, ProductId, RunSpec, StoredObject
from estimates import FindFinished, Source, estimate_steps
from routes.deps import ApiState
from routes.spend import BudgetOfDay, budget_of_day

DRY_RUN = "Only say what it would cost: nothing is stored or started."


class EstimatedStep(BaseModel):
    step: str
    provider: str
    model: str
    price_usd: float  #: 0 when it is reused
    reused: bool  #: it is finished already, and not bought again


class Estimate(BaseModel):
    """At the providers' list prices. What is charged in the end is what they report."""

    dry_run: bool = True
    steps: list[EstimatedStep]
    total_usd: float
    day: BudgetOfDay


async def estimate_new_product(state: ApiState, run: Mapping[str, Any], upload: Source) -> Estimate:
    spec = RunSpec(recipe=run["recipe"], params=run["params"], pack=run["pack"], generation=0, base_generation=0)

    async def nothing_is_finished(_input_hashes: Sequence[str]) -> Mapping[str, StoredObject]:
        return {}

    return await _estimate(state, spec, upload, nothing_is_finished)


async def estimate_next_run(
    state: ApiState,
    product_id: ProductId,
    run: Mapping[str, Any],
    *,
    new_upload: Source | None = None,
    fresh: bool = False,
) -> Estimate:
    """What `start_run` with the same arguments would cost now; raises what it would raise."""
    database = state.database
    spec = await database.plan_run(product_id, run, new_upload=new_upload is not None, fresh=fresh)
    upload = new_upload
    if upload is None:
        raw = await database.raw_of_product(product_id)
        upload = Source(sha256=raw.sha256, width=raw.width, height=raw.height)

    async def find_finished(input_hashes: Sequence[str]) -> Mapping[str, StoredObject]:
        return await database.finished_steps(product_id, input_hashes)

    return await _estimate(state, spec, upload, find_finished)


async def _estimate(state: ApiState, spec: RunSpec, upload: Source, find_finished: FindFinished) -> Estimate:
    if state.models is None:
        raise HTTPException(503, "What it would cost is not known: the API was started without the models' keys.")
    steps = await estimate_steps(
        spec, upload, settings=state.settings, models=state.models.by_capability, find_finished=find_finished
    )
    return Estimate(
        steps=[
            EstimatedStep(
                step=step.step,
                provider=step.provider,
                model=step.model,
                price_usd=step.price_micros / MICROS_PER_USD,
                reused=step.reused,
            )
            for step in steps
        ],
        total_usd=sum(step.price_micros for step in steps) / MICROS_PER_USD,
        day=await budget_of_day(state),
    )
