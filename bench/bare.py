"""The ideal of this machine: the provider calls alone, with no queue, no storage and no memory of what was done."""

from __future__ import annotations

import asyncio
import os

from bench.contender import Outcome, Stopwatch, Task, compete
from bench.provider_calls import FIRST_POLL_S, ProviderCalls, open_session

DENSE_POLL_S = 0.01  # so often that asking hardly delays the end


async def work(task: Task) -> Outcome:
    dense = bool(os.environ.get("BENCH_DENSE_POLLS"))
    async with open_session() as session:
        calls = ProviderCalls(
            session=session,
            sandbox_url=task.sandbox_url,
            photo=task.photo,
            first_poll_s=DENSE_POLL_S if dense else FIRST_POLL_S,
        )
        places = asyncio.Semaphore(task.concurrency)

        async def one() -> None:
            async with places:
                await calls.make_product()

        watch = Stopwatch()
        await asyncio.gather(*(one() for _ in range(task.products)))
        return watch.outcome()


if __name__ == "__main__":
    compete(work)
