"""`POST /process` starts a product, `POST /process/{id}` processes it again, or one scene of it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Annotated, Any
from uuid import UUID, uuid4, uuid5

from fastapi import APIRouter, Header, HTTPException, Query, Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData

from config import Settings
from domain import ProductId, Status
from errors import ConfigError, ConflictError, NotFoundError
from packs import load_pack
from recipes import RECIPES
from routes.deps import ApiState, ShopOnly, State
from routes.uploads import file_field, judged_upload, read_form, store_upload, text_field

log = logging.getLogger("api")
router = APIRouter(tags=["process"])

OWNER = "api-key"  # until people have accounts, everyone who writes is the holder of the one key
PRODUCT_IDS = UUID("0d9f1c54-8f0e-4d56-9a39-6d0c9b2e7a11")  # namespace of the ids that are made from idempotency keys
MESSAGE = "Uploaded. Processing started in background."
DEFAULT_RECIPE = "storefront"
MAX_PRIORITY = 100
MAX_PROMPT = 2560  # characters: what every provider takes

IdempotencyKey = Annotated[
    str | None,
    Header(description="A repeat with the same key and the same content gets the first answer.", max_length=200),
]

_FIELDS = {
    "title": {"type": "string", "maxLength": 500, "default": "Untitled"},
    "jewellery_type": {"type": "string", "maxLength": 200, "description": "ring, necklace ..."},
    "recipe": {"type": "string", "enum": sorted(RECIPES), "default": DEFAULT_RECIPE},
    "steps": {"type": "string", "description": "What to do before the cut-out: restore, colourise, or both."},
    "pack": {"type": "string", "description": "A scene pack; the shop's default otherwise."},
    "priority": {"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY, "default": 0},
}


def _form_schema(*, file_required: bool) -> dict[str, Any]:
    """The form for the API's page: the body is read by hand, so that a refusal does not wait for it."""
    file = {"type": "string", "format": "binary", "description": "JPEG, PNG or WebP"}
    schema = {"type": "object", "properties": {"file": file, **_FIELDS}, "required": ["file"] if file_required else []}
    return {"requestBody": {"required": file_required, "content": {"multipart/form-data": {"schema": schema}}}}


class Started(BaseModel):
    """What is known when the work has only been queued."""

    message: str
    product_id: UUID
    raw_image_url: str | None
    run_id: UUID
    run_no: int


@router.post("/process", status_code=202, dependencies=[ShopOnly], openapi_extra=_form_schema(file_required=True))
async def start_product(request: Request, state: State, idempotency_key: IdempotencyKey = None) -> Started:
    """Upload a photograph; a worker makes the pictures. Answers at once."""
    async with read_form(request) as form:
        file = file_field(form)
        if file is None:
            raise HTTPException(422, "file: a picture is required.")
        title = text_field(form, "title", longest=500) or "Untitled"
        jewellery_type = text_field(form, "jewellery_type", longest=200)
        run = _run_of(form, state.settings)
        # A repeat of the request must meet the same object in Storage, so the id follows from the key.
        product_id = ProductId(uuid5(PRODUCT_IDS, f"{OWNER}:{idempotency_key}") if idempotency_key else uuid4())
        async with judged_upload(state, file) as upload:
            repeat = _request(idempotency_key or str(product_id), "start", title, jewellery_type, run, upload.sha256)
            if idempotency_key and (earlier := await state.database.recall_answer(repeat)):
                return _started(earlier)
            raw = await store_upload(state, upload, product_id)
    product = {"id": str(product_id), "title": title, "jewellery_type": jewellery_type}
    answer = await state.database.create_product(product, raw, run, repeat)
    log.info("product.accepted", extra={"product_id": str(product_id), "bytes": raw["bytes"]})
    return _started(answer)


@router.post(
    "/process/{product_id}", status_code=202, dependencies=[ShopOnly], openapi_extra=_form_schema(file_required=False)
)
async def process_again(
    product_id: UUID,
    request: Request,
    state: State,
    idempotency_key: IdempotencyKey = None,
    fresh: Annotated[bool, Query(description="Renew everything, the cut-out too.")] = False,
    clear: Annotated[bool, Query(description="Empty the shown pictures at once.")] = False,
) -> Started:
    """Process a product again, with a new photograph or the one it has.

    After a whole result it makes new scenes from the same cut-out; after a failure or a partial one it makes only what
    is missing. What the form leaves out stays as it was.
    """
    product = ProductId(product_id)
    earlier_run = await state.database.latest_run(product)
    async with read_form(request) as form:
        run = _run_of(form, state.settings, earlier_run)
        run["title"] = text_field(form, "title", longest=500)
        run["jewellery_type"] = text_field(form, "jewellery_type", longest=200)
        async with AsyncExitStack() as stack:
            file = file_field(form)
            upload = await stack.enter_async_context(judged_upload(state, file)) if file else None
            repeat = _request(
                idempotency_key or str(uuid4()), "again", str(product), run, fresh, clear, upload and upload.sha256
            )
            if idempotency_key and (earlier := await state.database.recall_answer(repeat)):
                return _started(earlier)
            raw = None
            if upload is not None:
                await _check_is_idle(state, product)  # before anything is stored
                raw = await store_upload(state, upload, product)
    answer = await state.database.start_run(product, raw, run, fresh=fresh, clear=clear, request=repeat)
    return _started(answer)


_PROMPT_SCHEMA = {"type": "object", "properties": {"prompt": {"type": "string", "maxLength": MAX_PROMPT}}}
_VARIANT_BODY = {
    "requestBody": {
        "required": False,
        "content": {
            kind: {"schema": _PROMPT_SCHEMA}
            for kind in ("application/json", "multipart/form-data", "application/x-www-form-urlencoded")
        },
    }
}


@router.post(
    "/process/{product_id}/variants/{key}", status_code=202, dependencies=[ShopOnly], openapi_extra=_VARIANT_BODY
)
async def make_scene_again(
    product_id: UUID, key: str, request: Request, state: State, idempotency_key: IdempotencyKey = None
) -> Started:
    """Make one scene again from the cut-out that is there, in other words if wanted. The other scenes stay."""
    product = ProductId(product_id)
    run = _as_before(await state.database.latest_run(product), state.settings)
    if key not in {scene.key for scene in load_pack(run["pack"]).scenes}:
        raise NotFoundError(f"The scene pack {run['pack']!r} has no scene {key!r}.")
    run["only"] = {"keys": [key], "prompt": await _prompt_of(request)}
    repeat = _request(idempotency_key or str(uuid4()), "scene", str(product), run)
    answer = await state.database.start_run(product, None, run, fresh=False, clear=False, request=repeat)
    return _started(answer)


async def _prompt_of(request: Request) -> str | None:
    """The words for a scene, from a form or from JSON; None for the pack's own."""
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = await request.json()
        except ValueError:
            raise HTTPException(400, "The body is not JSON.") from None
        fields = FormData(body) if isinstance(body, dict) else FormData()
        return text_field(fields, "prompt", longest=MAX_PROMPT)
    async with read_form(request) as form:
        return text_field(form, "prompt", longest=MAX_PROMPT)


async def _check_is_idle(state: ApiState, product_id: ProductId) -> None:
    row = await state.database.fetch_product(product_id)
    if row["status"] in (Status.PENDING, Status.PROCESSING):
        raise ConflictError("This product is being processed already.")


def _started(answer: Mapping[str, Any]) -> Started:
    return Started(
        message=MESSAGE,
        product_id=answer["product_id"],
        raw_image_url=answer["raw_image_url"],
        run_id=answer["run_id"],
        run_no=answer["run_no"],
    )


def _as_before(earlier_run: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    """What to do, as the product's latest run did it; as the shop does by default where that is not known any more."""
    earlier = earlier_run or {}
    recipe = RECIPES.get(earlier.get("recipe", DEFAULT_RECIPE))
    params = {name: value for name, value in earlier.get("params", {}).items() if name != "only"}
    if recipe is None:
        recipe, params = RECIPES[DEFAULT_RECIPE], {}
    try:
        pack = load_pack(earlier.get("pack", settings.scene_pack))
    except ConfigError:
        pack = load_pack(settings.scene_pack)
    return {
        "recipe": recipe.name,
        "params": recipe.parameters.model_validate(params).model_dump(mode="json"),
        "pack": pack.name,
        "pack_version": pack.version,
        "max_attempts": settings.max_retries + 1,
        "priority": 0,
    }


def _run_of(form: FormData, settings: Settings, earlier_run: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What to do, from the form: checked here, so that a worker never meets a run that it cannot plan."""
    run = _as_before(earlier_run, settings) | {"priority": _priority_of(form)}
    if recipe_name := text_field(form, "recipe", longest=50):
        if recipe_name not in RECIPES:
            raise HTTPException(422, f"recipe: there are only these: {', '.join(sorted(RECIPES))}.")
        run["recipe"] = recipe_name
    if pack_name := text_field(form, "pack", longest=50):
        try:
            pack = load_pack(pack_name)
        except ConfigError as error:
            raise HTTPException(422, f"pack: {error}") from None
        run |= {"pack": pack.name, "pack_version": pack.version}
    if "steps" in form:
        steps = [step.strip() for step in (text_field(form, "steps", longest=200) or "").split(",") if step.strip()]
        try:
            parameters = RECIPES[run["recipe"]].parameters.model_validate({"steps": steps})
        except ValidationError as error:
            raise HTTPException(422, f"steps: {error.errors()[0]['msg']}") from None
        run["params"] = parameters.model_dump(mode="json")
    return run


def _priority_of(form: FormData) -> int:
    text = text_field(form, "priority", longest=10) or "0"
    try:
        priority = int(text)
    except ValueError:
        raise HTTPException(422, "priority: must be a whole number.") from None
    if abs(priority) > MAX_PRIORITY:
        raise HTTPException(422, f"priority: must lie between -{MAX_PRIORITY} and {MAX_PRIORITY}.")
    return priority


def _request(key: str, *content: object) -> dict[str, str]:
    """What the database needs to recognise a repeated request."""
    request_hash = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return {"owner": OWNER, "key": key, "request_hash": request_hash}
