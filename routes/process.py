"""`POST /process` starts a product, `POST /process/{id}` processes it again."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, HTTPException, Query, Request, Response

from domain import ProductId, Status
from errors import ConflictError
from estimates import Source
from routes.deps import ApiState, ShopOnly, State
from routes.estimates import DRY_RUN, Estimate, estimate_new_product, estimate_next_run
from routes.intake import NewProduct, create_product
from routes.run_forms import form_schema, run_of_form
from routes.started import IdempotencyKey, Started, repeatable_request, started
from routes.uploads import JudgedUpload, file_field, judged_upload, read_form, store_upload, text_field

router = APIRouter(tags=["process"])


@router.post("/process", status_code=202, dependencies=[ShopOnly], openapi_extra=form_schema(file_required=True))
async def start_product(
    request: Request,
    response: Response,
    state: State,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description=DRY_RUN)] = False,
) -> Started | Estimate:
    """Upload a photograph; a worker makes the pictures. Answers at once."""
    async with read_form(request) as form:
        file = file_field(form)
        if file is None:
            raise HTTPException(422, "file: a picture is required.")
        new = NewProduct(
            title=text_field(form, "title", longest=500) or "Untitled",
            jewellery_type=text_field(form, "jewellery_type", longest=200),
            run=run_of_form(form, state.settings),
        )
        async with judged_upload(state, file) as upload:
            if dry_run:
                response.status_code = 200
                return await estimate_new_product(state, new.run, _source(upload))
            return await create_product(state, upload, new, idempotency_key)


@router.post(
    "/process/{product_id}", status_code=202, dependencies=[ShopOnly], openapi_extra=form_schema(file_required=False)
)
async def process_again(
    product_id: UUID,
    request: Request,
    response: Response,
    state: State,
    idempotency_key: IdempotencyKey = None,
    fresh: Annotated[bool, Query(description="Renew everything, the cut-out too.")] = False,
    clear: Annotated[bool, Query(description="Empty the shown pictures at once.")] = False,
    dry_run: Annotated[bool, Query(description=DRY_RUN)] = False,
) -> Started | Estimate:
    """Process a product again, with a new photograph or the one it has.

    After a whole result it makes new scenes from the same cut-out; after a failure or a partial one it makes only what
    is missing. What the form leaves out stays as it was.
    """
    product = ProductId(product_id)
    earlier_run = await state.database.latest_run(product)
    async with read_form(request) as form:
        run = run_of_form(form, state.settings, earlier_run)
        run["title"] = text_field(form, "title", longest=500)
        run["jewellery_type"] = text_field(form, "jewellery_type", longest=200)
        async with AsyncExitStack() as stack:
            file = file_field(form)
            upload = await stack.enter_async_context(judged_upload(state, file)) if file else None
            if dry_run:
                response.status_code = 200
                new_upload = _source(upload) if upload else None
                return await estimate_next_run(state, product, run, new_upload=new_upload, fresh=fresh)
            repeat = repeatable_request(
                idempotency_key or str(uuid4()), "again", str(product), run, fresh, clear, upload and upload.sha256
            )
            if idempotency_key and (earlier := await state.database.recall_answer(repeat)):
                return started(earlier)
            raw = None
            if upload is not None:
                await _check_is_idle(state, product)  # before anything is stored
                raw = await store_upload(state, upload, product)
    answer = await state.database.start_run(product, raw, run, fresh=fresh, clear=clear, request=repeat)
    return started(answer)


async def _check_is_idle(state: ApiState, product_id: ProductId) -> None:
    row = await state.database.fetch_product(product_id)
    if row["status"] in (Status.PENDING, Status.PROCESSING):
        raise ConflictError("This product is being processed already.")


def _source(upload: JudgedUpload) -> Source:
    return Source(sha256=upload.sha256, width=upload.picture.width, height=upload.picture.height)
