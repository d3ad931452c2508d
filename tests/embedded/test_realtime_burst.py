"""A burst of changes for many subscribers: nobody misses one, and everybody gets his in order."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import psycopg
import pytest

from tests.embedded.realtime_support import Changes, connected, create_table, postgres_of, user_token
from tests.stack import RunningStack

SUBSCRIBERS = 100
UPDATES = 500


@pytest.mark.parametrize("with_policies", [False, True])
async def test_each_of_100_subscribers_gets_his_updates_of_500_in_order(
    stack: RunningStack, with_policies: bool
) -> None:
    """Each filters on a row of his own; with policies each is a user of his own, too."""
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, n int")
        postgres.execute(f"insert into {table} select id, -1 from generate_series(0, {SUBSCRIBERS - 1}) id")
        if with_policies:
            postgres.execute(f"alter table {table} enable row level security")
            postgres.execute(f"create policy all_rows on {table} for select to authenticated using (true)")

    async with AsyncExitStack() as clients:
        everybody: list[Changes] = []
        for number in range(SUBSCRIBERS):
            token = user_token(stack, f"00000000-0000-0000-0000-{number:012}") if with_policies else None
            key = stack.publishable_key
            client = await clients.enter_async_context(connected(stack, key, token=token))
            everybody.append(Changes(client.channel(f"burst-{number}")).on(table, filter=f"id=eq.{number}"))
        await asyncio.gather(*(changes.subscribed() for changes in everybody))

        def update() -> None:
            with psycopg.connect(stack.database_url, autocommit=True) as connection:
                for n in range(UPDATES):
                    connection.execute(f"update {table} set n = {n} where id = {n % SUBSCRIBERS}")

        updating = asyncio.create_task(asyncio.to_thread(update))
        each = UPDATES // SUBSCRIBERS
        received = await asyncio.gather(*(changes.records(each) for changes in everybody))
        await updating
        assert all(changes.payloads.empty() for changes in everybody)

    assert [[row["n"] for row in rows] for rows in received] == [
        list(range(number, UPDATES, SUBSCRIBERS)) for number in range(SUBSCRIBERS)
    ]


async def test_unfiltered_subscribers_get_all_updates_in_order(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, n int")
        async with AsyncExitStack() as clients:
            everybody = [
                Changes((await clients.enter_async_context(connected(stack))).channel(f"all-{number}")).on(table)
                for number in range(10)
            ]
            await asyncio.gather(*(changes.subscribed() for changes in everybody))
            with psycopg.connect(stack.database_url) as transaction:
                transaction.execute(f"insert into {table} select n, n from generate_series(1, {UPDATES}) n")
            received = await asyncio.gather(*(changes.records(UPDATES) for changes in everybody))
    for rows in received:
        assert [row["n"] for row in rows] == list(range(1, UPDATES + 1))
