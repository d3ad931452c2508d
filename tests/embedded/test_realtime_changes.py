"""Row changes as the official Python client receives them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import psycopg
import pytest
from realtime import RealtimeSubscribeStates

from tests.embedded.realtime_support import (
    Changes,
    connected,
    create_table,
    next_of,
    open_socket,
    postgres_of,
    stays_empty,
    topic_name,
    user_token,
)
from tests.stack import RunningStack


async def test_insert_update_and_delete_arrive_in_order(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, title text")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"insert into {table} values (1, 'ring')")
            postgres.execute(f"update {table} set title = 'band'")
            postgres.execute(f"delete from {table}")

            insert, update, delete = [await changes.next() for _ in range(3)]

    assert (insert["type"], insert["record"]) == ("INSERT", {"id": 1, "title": "ring"})
    assert "old_record" not in insert
    assert insert["errors"] is None
    assert insert["columns"] == [{"name": "id", "type": "int4"}, {"name": "title", "type": "text"}]
    assert (insert["schema"], insert["table"]) == ("public", table)
    assert (update["type"], update["record"], update["old_record"]) == (
        "UPDATE",
        {"id": 1, "title": "band"},
        {"id": 1},
    )
    assert (delete["type"], delete["old_record"]) == ("DELETE", {"id": 1})
    assert "record" not in delete


async def test_values_are_what_to_jsonb_makes_of_them(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        postgres.execute("create type public.realtime_mood as enum ('calm', 'bright')")
        table = create_table(
            postgres,
            "id uuid primary key, amount numeric(10, 2), tags text[], details jsonb, made_at timestamptz, "
            "wall timestamp, day date, flag boolean, raw bytea, mood public.realtime_mood, nothing text, big bigint",
        )
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(
                f"insert into {table} values (gen_random_uuid(), 1.50, array['a', 'b,\"c'], '{{\"deep\": [1, null]}}', "
                "'2026-11-20 07:00:00.5+02', '2026-11-20 07:00', '2026-11-20', true, '\\x00ff', 'bright', null, "
                "9007199254740993)"
            )
            expected = postgres.execute(f"select to_jsonb({table}) from {table}").fetchone()
            data = await changes.next()

    assert expected is not None
    assert data["record"] == expected[0]
    assert [column["type"] for column in data["columns"]] == [
        "uuid", "numeric", "_text", "jsonb", "timestamptz", "timestamp", "date", "bool", "bytea", "realtime_mood",
        "text", "int8",
    ]  # fmt: skip


async def test_only_events_asked_for_arrive(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table, event="DELETE").subscribed()
            postgres.execute(f"insert into {table} values (1)")
            postgres.execute(f"delete from {table}")
            assert (await changes.next())["type"] == "DELETE"
            assert await stays_empty(changes.payloads)


#: Filters, and the ids of the rows that they let through. Row 11 is all nulls.
FILTERS = [
    ("n=eq.5", [5]),
    ("n=neq.5", [1, 9]),
    ("n=lt.5", [1]),
    ("n=lte.5", [1, 5]),
    ("n=gt.5", [9]),
    ("n=gte.5", [5, 9]),
    ("n=in.(1,9)", [1, 9]),
    ("n=not.in.(1,9)", [5]),
    ("n=not.eq.5", [1, 9]),
    ("n=gt.1,n=lt.9", [5]),
    ("word=eq.five", [5]),
    ("word=like.%i%", [5, 9]),
    ("word=ilike.ONE", [1]),
    ("word=match.^f", [5]),
    ("word=imatch.^F", [5]),
    ("word=not.like.%i%", [1]),
    ('word=in.("one","ni,ne")', [1]),
    ("word=isdistinct.one", [5, 9, 11]),
    ("n=isdistinct.5", [1, 9, 11]),
    ("word=is.null", [11]),
    ("word=not.is.null", [1, 5, 9]),
    ("flag=is.true", [5]),
    ("amount=eq.2.50", [5]),
    ("amount=eq.2.5", [5]),
    ("made_at=gt.2026-01-01", [9]),
]


async def test_every_filter_operator_compares_as_the_columns_type(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(
            postgres, "id int primary key, n int, word text, flag boolean, amount numeric, made_at timestamptz"
        )
        async with connected(stack) as client:
            channels = [
                Changes(client.channel(topic_name())).on(table, event="INSERT", filter=text) for text, _ in FILTERS
            ]
            await asyncio.gather(*(channel.subscribed() for channel in channels))
            last = await Changes(client.channel(topic_name())).on(table, event="DELETE").subscribed()
            postgres.execute(
                f"insert into {table} values (1, 1, 'one', false, 1, null), (5, 5, 'five', true, 2.500, '2025-06-01'),"
                f" (9, 9, 'nine', null, null, '2026-06-01'), (11, null, null, null, null, null)"
            )
            postgres.execute(f"delete from {table} where id = 1")
            await last.next()  # nothing of the inserts comes after it

    received = {
        text: [channel.payloads.get_nowait()["data"]["record"]["id"] for _ in range(channel.payloads.qsize())]
        for (text, _), channel in zip(FILTERS, channels, strict=True)
    }
    assert received == dict(FILTERS)


async def test_a_uuid_filter_ignores_case(stack: RunningStack) -> None:
    mine, other = uuid.uuid4(), uuid.uuid4()
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id uuid primary key")
        async with connected(stack) as client:
            changes = Changes(client.channel(topic_name())).on(table, filter=f"id=eq.{str(mine).upper()}")
            await changes.subscribed()
            postgres.execute(f"insert into {table} values ('{other}'), ('{mine}')")
            assert (await changes.next())["record"] == {"id": str(mine)}
            assert await stays_empty(changes.payloads)


async def test_a_delete_carries_the_key_and_passes_key_filters_only(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, title text")
        postgres.execute(f"insert into {table} values (1, 'ring'), (2, 'ring')")
        async with connected(stack) as client:
            by_key = await Changes(client.channel(topic_name())).on(table, filter="id=eq.2").subscribed()
            by_title = await Changes(client.channel(topic_name())).on(table, filter="title=eq.ring").subscribed()
            postgres.execute(f"delete from {table}")
            assert (await by_key.next())["old_record"] == {"id": 2}
            assert await stays_empty(by_title.payloads)


async def test_a_full_replica_identity_tells_whole_old_rows(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, title text")
        postgres.execute(f"alter table {table} replica identity full")
        postgres.execute(f"insert into {table} values (1, 'ring')")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table, filter="id=eq.1").subscribed()
            postgres.execute(f"update {table} set title = 'band'")
            postgres.execute(f"delete from {table}")
            assert (await changes.next())["old_record"] == {"id": 1, "title": "ring"}
            assert (await changes.next())["old_record"] == {"id": 1, "title": "band"}


async def test_a_large_value_that_did_not_change_is_missing(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, n int, large text")
        postgres.execute(f"alter table {table} alter large set storage external")
        postgres.execute(f"insert into {table} values (1, 1, repeat('x', 10000))")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"update {table} set n = 2")
            assert (await changes.next())["record"] == {"id": 1, "n": 2}
            postgres.execute(f"alter table {table} replica identity full")
            postgres.execute(f"update {table} set n = 3")
            assert (await changes.next())["record"] == {"id": 1, "n": 3, "large": "x" * 10000}


async def test_a_change_of_more_than_a_mebibyte_keeps_its_small_values(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, small text, large text")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"insert into {table} values (1, 'ring', repeat('x', 1024 * 1024))")
            data = await changes.next()
    assert data["record"] == {"id": 1, "small": "ring"}
    assert data["errors"] == ["Error 413: Payload Too Large"]


async def test_truncate_is_not_told(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key")
        postgres.execute(f"insert into {table} values (1)")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"truncate {table}")
            postgres.execute(f"insert into {table} values (2)")
            assert (await changes.next())["record"] == {"id": 2}


async def test_one_message_carries_the_ids_of_all_matching_subscriptions(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key")
        async with open_socket(stack, stack.secret_key) as socket:
            asked = [
                {"event": "INSERT", "schema": "public", "table": table},
                {"event": "*", "schema": "public", "table": table, "filter": "id=eq.1"},
                {"event": "*", "schema": "*"},
                {"event": "UPDATE", "schema": "public", "table": table},
            ]
            reply = await socket.join("many", {"postgres_changes": asked})
            answered = reply["response"]["postgres_changes"]
            assert [{key: one[key] for key in one if key != "id"} for one in answered] == asked
            assert (await socket.receive())["payload"]["message"] == "Subscribed to PostgreSQL"
            postgres.execute(f"insert into {table} values (1)")
            message = await socket.receive()
    assert message["ref"] is None
    assert message["payload"]["ids"] == [one["id"] for one in answered[:3]]


async def test_selected_columns_come_with_the_key(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, title text, secret text")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table, select=["title"]).subscribed()
            postgres.execute(f"insert into {table} values (1, 'ring', 'hidden')")
            data = await changes.next()
    assert data["record"] == {"id": 1, "title": "ring"}
    assert [column["name"] for column in data["columns"]] == ["id", "title"]


async def test_a_changed_table_is_told_in_its_new_shape(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"insert into {table} values (1)")
            assert (await changes.next())["record"] == {"id": 1}
            postgres.execute(f"alter table {table} add title text")
            postgres.execute(f"insert into {table} values (2, 'ring')")
            assert (await changes.next())["record"] == {"id": 2, "title": "ring"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"filter": "id=foo.1"}, "Error parsing `filter` params"),
        ({"filter": "nowhere=eq.1"}, "invalid column for filter nowhere"),
        ({"filter": "id=eq.ring"}, "invalid input syntax for type integer"),
        ({"filter": "id=like.1%"}, "operator does not exist"),
        ({"filter": "id=in.(" + ",".join(["1"] * 101) + ")"}, "too many values for `in` filter"),
        ({"filter": "id=is.5"}, "invalid value for is filter"),
        ({"table": "unpublished"}, "Please check Realtime is enabled for the given connect parameters"),
    ],
)
async def test_what_cannot_be_subscribed_to_is_said(stack: RunningStack, options: dict[str, Any], said: str) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key")
    async with connected(stack) as client:
        changes = Changes(client.channel(topic_name())).on(**{"table": table} | options)
        await changes.channel.subscribe(lambda state, error: changes.states.put_nowait((state, error)))
        assert await next_of(changes.states) == (RealtimeSubscribeStates.SUBSCRIBED, None)
        state, error = await next_of(changes.states)
    assert state == RealtimeSubscribeStates.CHANNEL_ERROR
    assert said in str(error)


async def test_a_table_published_later_is_found(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key", published=False)
        async with open_socket(stack, stack.secret_key) as socket:
            await socket.join("late", {"postgres_changes": [{"event": "*", "schema": "public", "table": table}]})
            assert (await socket.receive())["payload"]["status"] == "error"
            postgres.execute(f"alter publication supabase_realtime add table {table}")
            assert (await socket.receive())["payload"]["status"] == "ok"
            postgres.execute(f"insert into {table} values (1)")
            assert (await socket.receive())["payload"]["data"]["record"] == {"id": 1}


# -- row level security


async def test_each_user_hears_of_his_own_rows_alone(stack: RunningStack) -> None:
    ada, bob = str(uuid.uuid4()), str(uuid.uuid4())
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, owner uuid, title text")
        postgres.execute(f"alter table {table} enable row level security")
        postgres.execute(f"create policy own on {table} for select to authenticated using (owner = auth.uid())")
        async with (
            connected(stack, stack.publishable_key, token=user_token(stack, ada)) as ada_client,
            connected(stack, stack.publishable_key, token=user_token(stack, bob)) as bob_client,
            connected(stack, stack.publishable_key) as stranger_client,
            connected(stack, stack.secret_key) as service_client,
        ):
            ada_sees, bob_sees, stranger_sees, service_sees = [
                await Changes(client.channel(topic_name())).on(table).subscribed()
                for client in (ada_client, bob_client, stranger_client, service_client)
            ]
            postgres.execute(f"insert into {table} values (1, '{ada}', 'a'), (2, '{bob}', 'b')")
            postgres.execute(f"update {table} set title = title || '!'")
            assert [row["title"] for row in await ada_sees.records(2)] == ["a", "a!"]
            assert [row["title"] for row in await bob_sees.records(2)] == ["b", "b!"]
            assert [row["title"] for row in await service_sees.records(4)] == ["a", "b", "a!", "b!"]

            # A DELETE cannot be checked: everybody hears of it, and only of the key.
            postgres.execute(f"alter table {table} replica identity full")
            postgres.execute(f"delete from {table} where id = 1")
            for one in (ada_sees, bob_sees, stranger_sees):
                data = await one.next()
                assert (data["type"], data["old_record"]) == ("DELETE", {"id": 1})
                assert one.payloads.empty()


async def test_a_role_without_the_right_to_select_is_told_so(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, title text")
        postgres.execute(f"revoke select on {table} from anon")
        async with connected(stack, stack.publishable_key) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"insert into {table} values (1, 'ring')")
            refused = await changes.next()
            assert refused["errors"] == ["Error 401: Unauthorized"]
            assert refused["columns"] == []
            assert "record" not in refused

            postgres.execute(f"grant select (id) on {table} to anon")
            postgres.execute(f"insert into {table} values (2, 'band')")
            data = await changes.next()
            assert (data["record"], data["errors"]) == ({"id": 2}, None)
            assert data["columns"] == [{"name": "id", "type": "int4"}]


async def test_a_table_without_a_key_is_told_as_an_error(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "n int")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"insert into {table} values (1)")
            assert (await changes.next())["errors"] == ["Error 400: Bad Request, no primary key"]


async def test_a_failing_policy_hides_its_row_and_no_other(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key")
        postgres.execute(f"alter table {table} enable row level security")
        postgres.execute(f"create policy fragile on {table} for select to anon using (1 / (id - 2) is not null)")
        async with connected(stack, stack.publishable_key) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            postgres.execute(f"insert into {table} values (1), (2), (3)")
            first, second, third = [await changes.next() for _ in range(3)]
    assert (first["record"], third["record"]) == ({"id": 1}, {"id": 3})
    assert second["errors"] == ["Error 500: Internal Server Error, RLS policy evaluation failed"]
    assert "record" not in second


async def test_a_new_token_changes_what_is_seen(stack: RunningStack) -> None:
    ada, bob = str(uuid.uuid4()), str(uuid.uuid4())
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, owner uuid")
        postgres.execute(f"alter table {table} enable row level security")
        postgres.execute(f"create policy own on {table} for select to authenticated using (owner = auth.uid())")
        async with connected(stack, stack.publishable_key, token=user_token(stack, ada)) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            await client.set_auth(user_token(stack, bob))
            assert (await next_of(changes.system)).message == "Subscribed to PostgreSQL"
            postgres.execute(f"insert into {table} values (1, '{ada}'), (2, '{bob}')")
            assert [row["id"] for row in await changes.records(1)] == [2]
            assert await stays_empty(changes.payloads)


async def test_a_row_that_is_gone_again_is_not_told_under_row_level_security(stack: RunningStack) -> None:
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key")
        postgres.execute(f"alter table {table} enable row level security")
        async with connected(stack) as client:
            changes = await Changes(client.channel(topic_name())).on(table).subscribed()
            with psycopg.connect(stack.database_url) as transaction:
                transaction.execute(f"insert into {table} values (1)")
                transaction.execute(f"delete from {table}")
            assert (await changes.next())["type"] == "DELETE"
