"""`POST /process/{id}/variants/{key}`: one scene of a product again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, HTTPException, Query, Request, Response
from starlette.datastructures import FormData

from domain import ProductId
from errors import NotFoundError
from packs import load_pack
from routes.deps import ShopOnly, State
from routes.estimates import DRY_RUN, Estimate, estimate_next_run
from routes.run_forms import run_as_before
from routes.started import IdempotencyKey, Started, repeatable_request, started
from routes.uploads import read_form, text_field

router = APIRouter(tags=["process"])

MAX_PROMPT = 2560  # characters: what every provider takes

_PROMPT_SCHEMA = {"type": "object", "properties": {"prompt": {"type": "string", "maxLength": MAX_PROMPT}}}
_BODY = {
    "requestBody": {
        "required": False,
        "content": {
            kind: {"schema": _PROMPT_SCHEMA}
            for kind in ("application/json", "multipart/form-data", "application/x-www-form-urlencoded")
        },
    }
}


@router.post("/process/{product_id}/variants/{key}", status_code=202, dependencies=[ShopOnly], openapi_extra=_BODY)
async def make_scene_again(
    product_id: UUID,
    key: str,
    request: Request,
    response: Response,
    state: State,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description=DRY_RUN)] = False,
) -> Started | Estimate:
    """Make one scene again from the cut-out that is there, in other words if wanted. The other scenes stay."""
    product = ProductId(product_id)
    run = run_as_before(await state.database.latest_run(product), state.settings)
    if key not in {scene.key for scene in load_pack(run["pack"]).scenes}:
        raise NotFoundError(f"The scene pack {run['pack']!r} has no scene {key!r}.")
    run["only"] = {"keys": [key], "prompt": await _prompt_of(request)}
    if dry_run:
        response.status_code = 200
        return await estimate_next_run(state, product, run)
    repeat = repeatable_request(idempotency_key or str(uuid4()), "scene", str(product), run)
    return started(await state.database.start_run(product, None, run, fresh=False, clear=False, request=repeat))


async def _prompt_of(request: Request) -> str | None:
    """The words for a scene, from a form or from JSON; None for the pack's own."""
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = await request.json()
        except ValueError:
            raise HTTPException(400, "The body is not JSON.") from None
        if not isinstance(body, dict):
            raise HTTPException(422, 'The body must be an object, like {"prompt": "On green silk."}.')
        return text_field(FormData(body), "prompt", longest=MAX_PROMPT)
    async with read_form(request) as form:
        return text_field(form, "prompt", longest=MAX_PROMPT)
