"""Nothing is missed in silence: when the stream of changes breaks, clients are told and join again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from realtime import RealtimeSubscribeStates

from tests.embedded.realtime_support import Changes, connected, create_table, next_of, postgres_of, topic_name
from tests.stack import RunningStack, start_stack


async def test_clients_join_again_when_postgres_drops_the_stream(stack: RunningStack) -> None:
    with postgres_of(stack, superuser=True) as postgres:
        table = create_table(postgres, "id int primary key")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            assert (await next_of(changes.states))[0] == RealtimeSubscribeStates.SUBSCRIBED
            postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'")

            assert (await next_of(changes.states))[0] == RealtimeSubscribeStates.CHANNEL_ERROR
            assert (await next_of(changes.states))[0] == RealtimeSubscribeStates.SUBSCRIBED
            assert (await next_of(changes.system)).message == "Subscribed to PostgreSQL"
            postgres.execute(f"insert into {table} values (1)")
            assert (await changes.next())["record"] == {"id": 1}


# realtime-py reads deprecated attributes of websockets when a connection breaks; as errors they would end its reader.
@pytest.mark.filterwarnings("ignore:ConnectionClosed:DeprecationWarning")
async def test_clients_come_back_after_the_whole_stack_restarts(tmp_path: Path) -> None:
    stack = start_stack(tmp_path)
    try:
        with postgres_of(stack) as postgres:
            table = create_table(postgres, "id int primary key")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            await asyncio.to_thread(stack.stop)
            stack = await asyncio.to_thread(start_stack, tmp_path, port=None)
            await client.connect()  # after some 15 seconds away it would no longer try by itself

            assert (await next_of(changes.system)).message == "Subscribed to PostgreSQL"
            with postgres_of(stack) as postgres:
                postgres.execute(f"insert into {table} values (1)")
            assert (await changes.next())["record"] == {"id": 1}
            states = [changes.states.get_nowait()[0] for _ in range(changes.states.qsize())]
    finally:
        stack.stop()
    assert states == [
        RealtimeSubscribeStates.SUBSCRIBED,
        RealtimeSubscribeStates.CHANNEL_ERROR,
        RealtimeSubscribeStates.SUBSCRIBED,
    ]
