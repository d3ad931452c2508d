"""The version that everybody writes first: a FastAPI background task in the web process, on the same Storage.

It has no queue, no checkpoints, no ledger and no retries: a restart loses all that is under way. It gets our HTTP
transport all the same, so that what differs is what it leaves out.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

import httpx
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from supabase import AsyncClient

from bench.contender import Countdown, Outcome, Stopwatch, Task, compete
from bench.machine import BUCKET, RAW_KEY
from bench.provider_calls import SCENES, ProviderCalls, open_session
from config import load_settings
from scripts.ports import take_any
from supabase_client import connect_supabase
from transport import build_http_client


async def make_product(client: AsyncClient, calls: ProviderCalls) -> None:
    bucket = client.storage.from_(BUCKET)
    product_id = str(uuid4())
    await client.table("products").insert({"id": product_id, "status": "processing"}).execute()
    cutout = await calls.cut_out(await bucket.download(RAW_KEY))
    options = {"content-type": "image/png"}
    await bucket.upload(f"products/temp/{product_id}.png", cutout, options)  # type: ignore[arg-type]

    async def scene(place: int, prompt: str) -> str:
        key = f"products/processed/{product_id}_v{place}.png"
        await bucket.upload(key, await calls.scene(prompt), options)  # type: ignore[arg-type]
        return key

    urls = await asyncio.gather(*(scene(place, prompt) for place, prompt in enumerate(SCENES, start=1)))
    result = {"status": "completed", "generated_image_urls": urls}
    await client.table("products").update(result).eq("id", product_id).execute()


async def work(task: Task) -> Outcome:
    port = take_any()
    countdown = Countdown(task.products)
    places = asyncio.Semaphore(task.concurrency)
    async with build_http_client() as http, open_session() as session:
        client = await connect_supabase(load_settings(), http)
        calls = ProviderCalls(session=session, sandbox_url=task.sandbox_url, photo=task.photo)
        app = FastAPI()

        async def make() -> None:
            async with places:
                await make_product(client, calls)
            countdown.one_made()

        async def accept(background: BackgroundTasks) -> None:
            background.add_task(make)

        app.add_api_route("/process", accept, methods=["POST"], status_code=202)
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  it has no event to wait for
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as poster:
            watch = Stopwatch()
            for _ in range(task.products):
                await poster.post("/process")
            await countdown.done.wait()
            outcome = watch.outcome()
        server.should_exit = True
        await serving
        return outcome


if __name__ == "__main__":
    compete(work)
