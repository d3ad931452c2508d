"""A whole Vitrine for tests: the real API app and the real worker on an embedded Supabase and the sandbox."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from PIL import Image
from psycopg.rows import dict_row

from config import Settings
from main import create_app
from tests.sandbox.running import SandboxClient
from tests.stack import RunningStack
from worker import run_worker

SAMPLES = Path(__file__).parent.parent / "samples"
API_KEY = "test-key"
TABLES = "products, runs, steps, calls, budgets, idempotency_keys, events, workers, objects_to_remove, maintenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """One test's view of the system; everything in it is reached as its users reach it."""

    settings: Settings
    stack: RunningStack
    sandbox: SandboxClient
    api: httpx.AsyncClient = field(repr=False)

    async def upload(self, photo: bytes | None = None, **form: str) -> str:
        """Post a photograph; the product's id."""
        answer = await self.api.post("/process", files={"file": ("ring.jpg", photo or small_photo())}, data=form)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["product_id"])

    async def again(self, product_id: str, **options: Any) -> httpx.Response:
        return await self.api.post(f"/process/{product_id}", **options)

    async def product(self, product_id: str) -> dict[str, Any]:
        answer = await self.api.get(f"/product/{product_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def work(self, **changes: Any) -> None:
        """Let a worker do what is due, in this process."""
        settings = self.settings.model_copy(update=changes)
        await run_worker(settings, stop=asyncio.Event(), once=True)

    async def processed(self, product_id: str, **changes: Any) -> dict[str, Any]:
        await self.work(**changes)
        return await self.product(product_id)

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """What the database of record says."""
        with psycopg.connect(self.stack.superuser_url, row_factory=dict_row) as connection:
            return connection.execute(query, arguments).fetchall()

    def execute(self, statement: str, *arguments: object) -> None:
        with psycopg.connect(self.stack.superuser_url, autocommit=True) as connection:
            connection.execute(statement, arguments)

    def bought(self) -> dict[str, int]:
        """How many pictures were billed, by provider."""
        lines = self.sandbox.invoice()["lines"]
        providers = [line["provider"] for line in lines if line["accepted"] and line["credits"]]
        return {provider: providers.count(provider) for provider in sorted(set(providers))}

    def fetch(self, url: str) -> bytes:
        answer = httpx.get(url, trust_env=False)
        assert answer.status_code == 200, (url, answer.text)
        return answer.content


@asynccontextmanager
async def open_shop(stack: RunningStack, sandbox: SandboxClient, **changes: Any) -> AsyncIterator[Shop]:
    values: dict[str, Any] = {
        "environment": "test",
        "supabase_url": stack.url,
        "supabase_service_role_key": stack.secret_key,
        "sandbox_url": str(sandbox.base_url),
        "api_key": API_KEY,
        "worker_id": "worker-under-test",
        "lease_seconds": 5,
    }
    settings = Settings.model_validate(values | changes)
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://testserver", headers={"X-API-Key": API_KEY}
        ) as api,
    ):
        yield Shop(settings=settings, stack=stack, sandbox=sandbox, api=api)


def small_photo(seed: int = 0, *, size: tuple[int, int] = (320, 240), image_format: str = "JPEG") -> bytes:
    """A photograph-like picture of its own for each seed."""
    grey = hashlib.sha256(str(seed).encode()).digest()
    image = Image.new("RGB", size, (200, 200, 190))
    image.paste((grey[0], grey[1], grey[2]), (size[0] // 3, size[1] // 3, 2 * size[0] // 3, 2 * size[1] // 3))
    output = io.BytesIO()
    image.save(output, image_format)
    return output.getvalue()
