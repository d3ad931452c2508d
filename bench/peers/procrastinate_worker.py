"""Procrastinate (https://github.com/procrastinate-org/procrastinate): one job a product."""

from __future__ import annotations

import asyncio

import procrastinate  # type: ignore[import-not-found]
import psycopg

from bench.contender import Countdown, Outcome, Stopwatch, Task, compete
from bench.provider_calls import ProviderCalls, open_session

SETTLE_S = 1.0  # until the idle worker listens


async def work(task: Task) -> Outcome:
    async with await psycopg.AsyncConnection.connect(task.database_url, autocommit=True) as connection:
        await connection.execute("drop schema public cascade")
        await connection.execute("create schema public")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=task.database_url))
    countdown = Countdown(task.products)
    async with app.open_async(), open_session() as session:
        await app.schema_manager.apply_schema_async()
        calls = ProviderCalls(session=session, sandbox_url=task.sandbox_url, photo=task.photo)

        async def make() -> None:
            await calls.make_product()
            countdown.one_made()

        job = app.task(name="make")(make)
        running = asyncio.create_task(app.run_worker_async(concurrency=task.concurrency, install_signal_handlers=False))
        await asyncio.sleep(SETTLE_S)
        watch = Stopwatch()
        await job.batch_defer_async(*({} for _ in range(task.products)))
        await countdown.done.wait()
        outcome = watch.outcome()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return outcome


if __name__ == "__main__":
    compete(work)
