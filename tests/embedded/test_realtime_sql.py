"""Schema `realtime` on both versions of Postgres, and what the stream of changes makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from embedded.database import open_pool
from embedded.postgres import BOOTSTRAP_DIR
from embedded.realtime.broadcasts import MESSAGES_PUBLICATION, delete_old_messages
from embedded.realtime.pgoutput import Action, RowChange
from embedded.realtime.replication import MAX_BATCH_CHANGES, StreamLostError, open_stream
from embedded.realtime.subscriptions import CHANGES_PUBLICATION
from tests.conftest import PostgresWithTemplates


@pytest.fixture(params=["postgres_16", "postgres"])
def server(request: pytest.FixtureRequest) -> PostgresWithTemplates:
    running: PostgresWithTemplates = request.getfixturevalue(request.param)
    return running


@asynccontextmanager
async def changes_of(dsn: str) -> AsyncIterator[asyncio.Queue[RowChange]]:
    """Changes from now on, one by one."""
    queue: asyncio.Queue[RowChange] = asyncio.Queue()

    async def read(ready: asyncio.Event) -> None:
        async with open_stream(dsn, [CHANGES_PUBLICATION, MESSAGES_PUBLICATION]) as stream:
            ready.set()
            async for batch in stream.batches():
                assert len(batch) <= MAX_BATCH_CHANGES
                for change in batch:
                    queue.put_nowait(change)

    ready = asyncio.Event()
    reading = asyncio.create_task(read(ready))
    try:
        async with asyncio.timeout(10):
            await ready.wait()
        yield queue
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def some(queue: asyncio.Queue[RowChange], count: int) -> list[RowChange]:
    async with asyncio.timeout(10):
        return [await queue.get() for _ in range(count)]


def test_the_bootstrap_can_be_run_again(server: PostgresWithTemplates) -> None:
    dsn = server.server.dsn(dbname=server.create_database())
    with psycopg.connect(dsn, autocommit=True) as connection:
        for _ in range(2):
            connection.execute((BOOTSTRAP_DIR / "40_realtime.sql").read_bytes())


def test_postgres_may_send_and_make_policies_on_messages(server: PostgresWithTemplates) -> None:
    with psycopg.connect(server.server.dsn("postgres", dbname=server.create_database())) as connection:
        connection.execute(
            "create policy hear on realtime.messages for select to authenticated using (realtime.topic() = 'x')"
        )
        connection.execute("select realtime.send('{\"n\": 1}', 'ring', 'x')")
        row = connection.execute("select topic, event, extension, private, payload - 'id' from realtime.messages")
        assert row.fetchall() == [("x", "ring", "broadcast", True, {"n": 1})]


def test_send_warns_instead_of_failing(server: PostgresWithTemplates) -> None:
    notices: list[str] = []
    with psycopg.connect(server.server.dsn("postgres", dbname=server.create_database())) as connection:
        connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        connection.execute("select realtime.send('{}', 'ring', null)")
        assert connection.execute("select count(*) from realtime.messages").fetchone() == (0,)
    assert notices[0].startswith("WarnSendingBroadcastMessage: null value in column")


async def test_messages_older_than_three_days_are_deleted(postgres: PostgresWithTemplates) -> None:
    dsn = postgres.server.dsn(dbname=postgres.create_database())
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "insert into realtime.messages (topic, extension, event, inserted_at) values"
            " ('x', 'broadcast', 'old', localtimestamp - interval '73 hours'),"
            " ('x', 'broadcast', 'young', localtimestamp - interval '71 hours')"
        )
        pool = open_pool(dsn, max_size=1)
        await pool.open()
        await delete_old_messages(pool)
        await pool.close()
        assert connection.execute("select event from realtime.messages").fetchall() == [("young",)]


async def test_the_stream_tells_changes_and_messages_in_the_order_of_commits(server: PostgresWithTemplates) -> None:
    dbname = server.create_database()
    dsn = server.server.dsn(dbname=dbname)
    with psycopg.connect(server.server.dsn("postgres", dbname=dbname), autocommit=True) as connection:
        connection.execute("create table rings (id int primary key, title text, large text)")
        connection.execute("alter table rings alter large set storage external")
        connection.execute("create table hidden (id int primary key)")
        connection.execute("alter publication supabase_realtime add table rings")
        async with changes_of(dsn) as queue:
            with psycopg.connect(server.server.dsn("postgres", dbname=dbname)) as later:
                later.execute("insert into rings values (2, 'committed last')")
                connection.execute("insert into rings values (1, 'ring', repeat('x', 5000))")
                connection.execute("insert into hidden values (1)")
                connection.execute("update rings set title = null where id = 1")
                connection.execute("select realtime.send('{}', 'bell', 'x')")
                connection.execute("update rings set id = 3 where id = 1")
                connection.execute("delete from rings where id = 3")
                connection.execute("truncate hidden")
            changes = await some(queue, 6)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await queue.get()
    assert [(one.action, one.relation.table) for one in changes] == [
        (Action.INSERT, "rings"),
        (Action.UPDATE, "rings"),
        (Action.INSERT, "messages"),
        (Action.UPDATE, "rings"),
        (Action.DELETE, "rings"),
        (Action.INSERT, "rings"),
    ]
    inserted, updated, _, moved, deleted, last = changes
    assert (inserted.new, inserted.old) == ({"id": "1", "title": "ring", "large": "x" * 5000}, None)
    assert (updated.new, updated.old) == ({"id": "1", "title": None}, {"id": "1"})  # large did not change
    assert (moved.new, moved.old) == ({"id": "3", "title": None}, {"id": "1"})
    assert (deleted.new, deleted.old) == (None, {"id": "3"})
    assert last.new == {"id": "2", "title": "committed last", "large": None}
    assert inserted.committed_at <= last.committed_at


async def test_a_large_transaction_comes_in_bounded_batches(postgres: PostgresWithTemplates) -> None:
    dbname = postgres.create_database()
    with psycopg.connect(postgres.server.dsn("postgres", dbname=dbname), autocommit=True) as connection:
        connection.execute("create table rings (id int primary key)")
        connection.execute("alter publication supabase_realtime add table rings")
        async with changes_of(postgres.server.dsn(dbname=dbname)) as queue:
            connection.execute("insert into rings select generate_series(1, 3000)")
            changes = await some(queue, 3000)
    assert [change.new for change in changes] == [{"id": str(n)} for n in range(1, 3001)]


async def test_a_table_published_while_the_stream_opens_is_seen(server: PostgresWithTemplates) -> None:
    """Postgres would overlook it for the slot that is being made at that moment."""
    dbname = server.create_database()
    dsn = server.server.dsn("postgres", dbname=dbname)

    async def publish() -> None:
        with (
            psycopg.connect(dsn) as first,
            psycopg.connect(dsn) as second,
            psycopg.connect(dsn, autocommit=True) as third,
        ):

            async def slot_waits_for(transaction: psycopg.Connection[Any]) -> None:
                """The slot becomes ready in phases; each ends with the transactions that ran at its beginning."""
                waiting = "select from pg_locks where locktype = 'transactionid' and not granted and transactionid = %s"
                while not third.execute(waiting, [xids[transaction]]).rowcount:
                    await asyncio.sleep(0.01)

            xids = {}
            xids[first] = first.execute("select pg_current_xact_id()::xid").fetchone()[0]  # type: ignore[index]
            begun.set()
            await slot_waits_for(first)
            xids[second] = second.execute("select pg_current_xact_id()::xid").fetchone()[0]  # type: ignore[index]
            third.execute("create table rings (id int primary key)")
            third.execute("alter publication supabase_realtime add table rings")
            first.commit()
            await slot_waits_for(second)
            third.execute("create table others (id int)")
            second.commit()

    begun = asyncio.Event()
    publishing = asyncio.create_task(publish())
    await begun.wait()
    async with changes_of(server.server.dsn(dbname=dbname)) as queue:
        await publishing
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("insert into rings values (1)")
        assert (await some(queue, 1))[0].new == {"id": "1"}


async def test_a_lost_stream_says_so_and_leaves_no_slot(postgres: PostgresWithTemplates) -> None:
    dbname = postgres.create_database()
    dsn = postgres.server.dsn(dbname=dbname)

    slots = "select active_pid from pg_replication_slots where database = %s"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        async with open_stream(dsn, [CHANGES_PUBLICATION]) as stream:
            cursor = await connection.execute(slots, [dbname])
            await connection.execute("select pg_terminate_backend(%s)", await cursor.fetchone())
            with pytest.raises(StreamLostError):
                await anext(stream.batches())
        async with asyncio.timeout(10):
            while await (await connection.execute(slots, [dbname])).fetchone():
                await asyncio.sleep(0.01)  # the backend is still on its way out
