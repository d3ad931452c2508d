"""A photograph's way through the API: post it, follow it, fetch its pictures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

POLL_EVERY_S = 0.5
POST_TRIES = 5  # a second apart; all with one Idempotency-Key, so that one product comes of it
FINAL_STATUSES = frozenset({"completed", "failed", "cancelled"})

Product = dict[str, Any]


class RefusedError(Exception):
    """The API does not take the photograph; the message is its reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNews:
    """A step that has reached a state worth telling: done, failed or waiting."""

    label: str
    state: str
    url: str | None
    error: str | None
    after_s: float  #: since the first look at the product


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductClient:
    http: httpx.AsyncClient
    api_url: str
    api_key: str

    async def post_photo(self, photo: Path, fields: Mapping[str, str]) -> str:
        """The id of the new product.

        Raises:
            RefusedError
            httpx.HTTPError: The API does not answer.
        """
        headers = {"X-API-Key": self.api_key, "Idempotency-Key": str(uuid4())}
        content = await asyncio.to_thread(photo.read_bytes)
        for tries_left in reversed(range(POST_TRIES)):
            try:
                answer = await self.http.post(
                    f"{self.api_url}/process",
                    headers=headers,
                    data=dict(fields),
                    files={"file": (photo.name, content)},
                    timeout=60,
                )
                if answer.status_code < 500 or tries_left == 0:
                    break
            except httpx.TransportError:
                if tries_left == 0:
                    raise
            await asyncio.sleep(1)
        if not answer.is_success:
            raise RefusedError(_detail(answer))
        product_id: str = answer.json()["product_id"]
        return product_id

    async def fetch(self, product_id: str) -> Product | None:
        """None: there is no such product.

        Raises:
            httpx.HTTPError: The API does not answer.
        """
        answer = await self.http.get(f"{self.api_url}/product/{product_id}", timeout=30)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        product: Product = answer.raise_for_status().json()
        return product

    async def follow(self, product_id: str, on_step: Callable[[StepNews], None]) -> Product | None:
        """The product when its run has ended; None when it was deleted. Waits while the API does not answer."""
        started = time.monotonic()
        told: dict[str, str] = {}
        while True:
            try:
                product = await self.fetch(product_id)
            except httpx.HTTPError:
                await asyncio.sleep(POLL_EVERY_S)
                continue
            if product is None:
                return None
            for name, step in product["progress"].get("steps", {}).items():
                state = step["state"]
                if state in ("done", "failed", "waiting") and told.get(name) != state:
                    told[name] = state
                    on_step(
                        StepNews(
                            label=step["label"],
                            state=state,
                            url=step.get("url"),
                            error=step.get("error"),
                            after_s=time.monotonic() - started,
                        )
                    )
            if product["status"] in FINAL_STATUSES:
                return product
            await asyncio.sleep(POLL_EVERY_S)


def cutout_url(product: Product) -> str | None:
    url: str | None = product["progress"].get("steps", {}).get("cutout", {}).get("url")
    return url


def _detail(answer: httpx.Response) -> str:
    """The API's own words."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"The API answered {answer.status_code}."
