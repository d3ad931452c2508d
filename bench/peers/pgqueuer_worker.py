"""PgQueuer (https://github.com/janbjorge/pgqueuer): one job a product.

On asyncpg, as its README has it: its psycopg driver listens on the very connection that it works with, a second each
time, which more than doubles a product's time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg  # type: ignore[import-not-found]
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]

from bench.contender import Countdown, Outcome, Stopwatch, Task, compete
from bench.provider_calls import ProviderCalls, open_session

SETTLE_S = 1.0  # until the idle worker listens


async def work(task: Task) -> Outcome:
    working, queueing = await asyncpg.connect(task.database_url), await asyncpg.connect(task.database_url)
    async with open_session() as session:
        queries = Queries(AsyncpgDriver(queueing))
        await queueing.execute("drop schema public cascade")
        await queueing.execute("create schema public")
        await queries.install()
        calls = ProviderCalls(session=session, sandbox_url=task.sandbox_url, photo=task.photo)
        countdown = Countdown(task.products)

        async def make(_job: Any) -> None:
            await calls.make_product()
            countdown.one_made()

        queue = PgQueuer.from_asyncpg_connection(working)
        queue.entrypoint("make")(make)
        # It demands room for at least two batches.
        batch = max(1, min(10, task.concurrency // 2))
        running = asyncio.create_task(queue.run(batch_size=batch, max_concurrent_tasks=max(2, task.concurrency)))
        await asyncio.sleep(SETTLE_S)
        watch = Stopwatch()
        await queries.enqueue(["make"] * task.products, [None] * task.products, [0] * task.products)
        await countdown.done.wait()
        outcome = watch.outcome()
        queue.shutdown.set()
        await running
        return outcome


if __name__ == "__main__":
    compete(work)
