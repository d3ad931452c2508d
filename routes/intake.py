"""How one uploaded picture becomes a product, whichever request it came with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4, uuid5

from domain import ProductId
from routes.deps import ApiState
from routes.started import OWNER, Started, repeatable_request, started
from routes.uploads import JudgedUpload, store_upload

log = logging.getLogger("api")

PRODUCT_IDS = UUID("0d9f1c54-8f0e-4d56-9a39-6d0c9b2e7a11")  # namespace of the ids that are made from idempotency keys


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProduct:
    """What a request says of a product besides its picture."""

    title: str
    jewellery_type: str | None
    run: Mapping[str, Any]


async def create_product(
    state: ApiState, upload: JudgedUpload, new: NewProduct, idempotency_key: str | None
) -> Started:
    """Store the picture and queue its first run; a repeat with the same key gets the first answer."""
    # A repeat of the request must meet the same object in Storage, so the id follows from the key.
    product_id = ProductId(uuid5(PRODUCT_IDS, f"{OWNER}:{idempotency_key}") if idempotency_key else uuid4())
    key = idempotency_key or str(product_id)
    repeat = repeatable_request(key, "start", new.title, new.jewellery_type, new.run, upload.sha256)
    if idempotency_key and (earlier := await state.database.recall_answer(repeat)):
        return started(earlier)
    raw = await store_upload(state, upload, product_id)
    product = {"id": str(product_id), "title": new.title, "jewellery_type": new.jewellery_type}
    answer = await state.database.create_product(product, raw, new.run, repeat)
    log.info("product.accepted", extra={"product_id": str(product_id), "bytes": raw["bytes"]})
    return started(answer)
