"""How long people wait: for the worker to take a product up, and for the browser to hear of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

import httpx
from psycopg import AsyncConnection
from realtime import RealtimePostgresChangesListenEvent, RealtimeSubscribeStates
from supabase import acreate_client

from bench.machine import Machine, Photo

PATIENCE_S = 30.0


async def pick_up_s(machine: Machine, photo: Photo, *, times: int) -> Sequence[float]:
    """From the answer 202 of `POST /process` to the first request at the provider, one product at a time.

    Below zero is possible: the bell rings when the product is committed, and the answer is still on its way then.
    """
    machine.reset()
    machine.behave(latency={})
    waits = []
    content = photo.path.read_bytes()
    async with (
        machine.api() as api_url,
        machine.worker(),
        httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as http,
    ):
        for number in range(1, times + 1):
            answer = await http.post(
                f"{api_url}/process",
                files={"file": ("ring.jpg", content)},
                headers={"X-API-Key": "bench"},
            )
            answered_at = time.time()
            answer.raise_for_status()
            await machine.wait_all_done(number)
            invoice = (await http.get(f"{machine.sandbox_url}/_sandbox/invoice", params={"work": "cutout"})).json()
            waits.append(datetime.fromisoformat(invoice["lines"][-1]["at"]).timestamp() - answered_at)
    return waits


async def realtime_s(machine: Machine, *, times: int) -> Sequence[float]:
    """From sending a commit, which is part of it, to the row in the hands of `supabase`'s Realtime client."""
    machine.reset()
    client = await acreate_client(machine.supabase_url, machine.secret_key)
    arrived: asyncio.Queue[float] = asyncio.Queue()
    subscribed = asyncio.Event()

    def on_change(_payload: object) -> None:
        arrived.put_nowait(time.perf_counter())

    def on_state(state: RealtimeSubscribeStates, _error: Exception | None) -> None:
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            subscribed.set()

    channel = client.channel("bench")
    channel.on_postgres_changes(
        RealtimePostgresChangesListenEvent.Update, schema="public", table="products", callback=on_change
    )
    waits = []
    try:
        await channel.subscribe(on_state)
        async with asyncio.timeout(PATIENCE_S):
            await subscribed.wait()
        async with await AsyncConnection.connect(machine.superuser_url, autocommit=True) as connection:
            await connection.execute("insert into public.products (title) values ('watched')")
            await asyncio.sleep(1)  # the database side of a subscription follows its answer by a moment
            for number in range(times):
                started = time.perf_counter()
                await connection.execute("update public.products set title = %s", (f"number {number}",))
                async with asyncio.timeout(PATIENCE_S):
                    waits.append(await arrived.get() - started)
    finally:
        await client.realtime.close()
    return waits
