"""`POST /process/batch`: many photographs in one form, each a product of its own."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel
from starlette.datastructures import UploadFile

from errors import BadPictureError, ConflictError, StoreUnavailableError
from routes.deps import ApiState, ShopOnly, State
from routes.intake import NewProduct, create_product
from routes.run_forms import form_schema, run_of_form
from routes.started import IdempotencyKey
from routes.uploads import judged_upload, read_form, text_field

router = APIRouter(tags=["process"])

PATH = "/process/batch"
MAX_FILES = 50
FORM_TIMEOUT_S = 1800  # for the whole form: 500 MB at 2.2 Mbit/s


class Result(BaseModel):
    """What became of one file: its product, or why there is none."""

    filename: str
    status: int  #: as if it had been sent alone
    product_id: UUID | None = None
    run_id: UUID | None = None
    raw_image_url: str | None = None
    detail: str | None = None


class Results(BaseModel):
    results: list[Result]  #: in the order of the files


def _batch_schema() -> dict[str, Any]:
    schema = form_schema(file_required=True)
    form = schema["requestBody"]["content"]["multipart/form-data"]["schema"]
    file = form["properties"].pop("file")
    form["properties"] = {"files": {"type": "array", "maxItems": MAX_FILES, "items": file}} | form["properties"]
    form["required"] = ["files"]
    return schema


@router.post(
    PATH,
    status_code=202,
    dependencies=[ShopOnly],
    openapi_extra=_batch_schema(),
    response_model_exclude_none=True,
)
async def start_products(request: Request, state: State, idempotency_key: IdempotencyKey = None) -> Results:
    """Upload up to 50 photographs; the other fields hold for all. A file that is refused stops no other one.

    With an `Idempotency-Key` a repeat with the same files, in the same order, is the same products.
    """
    async with read_form(request, max_files=MAX_FILES, timeout_s=FORM_TIMEOUT_S) as form:
        files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not files:
            raise HTTPException(422, "files: at least one picture is required.")
        new = NewProduct(
            title=text_field(form, "title", longest=500) or "Untitled",
            jewellery_type=text_field(form, "jewellery_type", longest=200),
            run=run_of_form(form, state.settings),
        )
        return Results(
            # One after the other, so that a batch takes no more memory than a single upload.
            results=[
                await _start_one(state, file, new, _key_of_file(idempotency_key, place))
                for place, file in enumerate(files)
            ]
        )


async def _start_one(state: ApiState, file: UploadFile, new: NewProduct, idempotency_key: str | None) -> Result:
    filename = (file.filename or "")[:255]
    try:
        async with judged_upload(state, file) as upload:
            product = await create_product(state, upload, new, idempotency_key)
    except BadPictureError as error:
        return Result(filename=filename, status=error.status, detail=str(error))
    except ConflictError as error:
        return Result(filename=filename, status=409, detail=str(error))
    except StoreUnavailableError as error:
        return Result(filename=filename, status=503, detail=str(error))
    return Result(
        filename=filename,
        status=202,
        product_id=product.product_id,
        run_id=product.run_id,
        raw_image_url=product.raw_image_url,
    )


def _key_of_file(idempotency_key: str | None, place: int) -> str | None:
    return hashlib.sha256(f"{idempotency_key}/{place}".encode()).hexdigest() if idempotency_key else None
