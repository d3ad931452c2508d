"""Broadcasts: between clients, over HTTP and from SQL; public and private channels."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates

from tests.embedded.realtime_support import (
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

Received = asyncio.Queue[Any]


async def listen(
    client: AsyncRealtimeClient, topic: str, *, event: str = "*", **config: Any
) -> tuple[AsyncRealtimeChannel, Received]:
    """Join a topic; what is broadcast there comes in the queue."""
    options: Any = {"config": {"broadcast": config.pop("broadcast", {}), "presence": None, "private": False} | config}
    channel = client.channel(topic, options)
    received: Received = asyncio.Queue()
    states: asyncio.Queue[Any] = asyncio.Queue()
    channel.on_broadcast(event, received.put_nowait)
    await channel.subscribe(lambda state, error: states.put_nowait((state, error)))
    state, error = await next_of(states)
    if state is not RealtimeSubscribeStates.SUBSCRIBED:
        raise PermissionError(str(error))
    return channel, received


async def test_others_hear_a_broadcast_and_the_sender_does_not(stack: RunningStack) -> None:
    topic = topic_name()
    async with connected(stack) as one, connected(stack) as two:
        sender, sender_hears = await listen(one, topic)
        _, hears = await listen(two, topic)
        await sender.send_broadcast("ring", {"size": 7})
        message = await next_of(hears)
        assert (message["event"], message["payload"]) == ("ring", {"size": 7})
        assert await stays_empty(sender_hears)


async def test_a_sender_may_hear_itself(stack: RunningStack) -> None:
    async with connected(stack) as client:
        channel, hears = await listen(client, topic_name(), broadcast={"self": True})
        await channel.send_broadcast("ring", {"size": 7})
        assert (await next_of(hears))["payload"] == {"size": 7}


async def test_a_broadcast_is_acknowledged_when_asked_for(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.join("acknowledged", {"broadcast": {"ack": True}})
        ref = await socket.send("realtime:acknowledged", "broadcast", {"event": "ring", "payload": {}})
        reply = await socket.receive()
    assert (reply["event"], reply["ref"], reply["payload"]["status"]) == ("phx_reply", ref, "ok")


async def test_a_batch_over_http_reaches_its_topics(stack: RunningStack) -> None:
    rings, bands = topic_name(), topic_name()
    async with connected(stack) as client, httpx.AsyncClient() as http:
        _, hears_rings = await listen(client, rings)
        _, hears_bands = await listen(client, bands)
        response = await http.post(
            f"{stack.url}/realtime/v1/api/broadcast",
            headers={"apikey": stack.publishable_key},
            json={
                "messages": [
                    {"topic": rings, "event": "a", "payload": {"n": 1}},
                    {"topic": bands, "event": "b", "payload": {"n": 2}, "private": False},
                ]
            },
        )
        assert (response.status_code, response.content) == (202, b"")
        assert (await next_of(hears_rings))["payload"] == {"n": 1}
        assert (await next_of(hears_bands))["payload"] == {"n": 2}


async def test_one_message_over_http_reaches_its_topic(stack: RunningStack) -> None:
    topic = f"room/{topic_name()} ä"
    async with connected(stack) as client:
        channel, hears = await listen(client, topic)
        await channel.http_send("size/changed", {"n": 1})
        message = await next_of(hears)
    assert (message["event"], message["payload"]) == ("size/changed", {"n": 1})


@pytest.mark.parametrize("headers", [{}, {"apikey": "sb_publishable_unknown"}])
async def test_http_demands_a_key(stack: RunningStack, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient() as http:
        response = await http.post(f"{stack.url}/realtime/v1/api/broadcast", headers=headers, json={"messages": []})
    assert response.status_code == 401


@pytest.mark.parametrize("body", [{}, {"messages": [{"topic": "x"}]}, {"messages": ["x"]}])
async def test_an_incomplete_batch_is_refused(stack: RunningStack, body: dict[str, Any]) -> None:
    async with httpx.AsyncClient() as http:
        response = await http.post(
            f"{stack.url}/realtime/v1/api/broadcast", headers={"apikey": stack.publishable_key}, json=body
        )
    assert response.status_code == 422


async def test_sql_sends_to_a_public_channel(stack: RunningStack) -> None:
    topic = topic_name()
    async with connected(stack) as client:
        _, hears = await listen(client, topic)
        with postgres_of(stack) as postgres:
            postgres.execute("select realtime.send('{\"n\": 1}', 'ring', %s, false)", [topic])
            postgres.execute("select realtime.send('{\"n\": 2}', 'ring', %s, true)", [topic])  # another channel
            postgres.execute('select realtime.send(\'{"n": 3, "id": "mine"}\', \'ring\', %s, false)', [topic])
        first, second = await next_of(hears), await next_of(hears)
    assert first["event"] == "ring"
    assert first["payload"]["n"] == 1
    assert first["meta"]["id"] == first["payload"]["id"]
    assert second["payload"] == {"n": 3, "id": "mine"}


async def test_sql_that_is_rolled_back_sends_nothing(stack: RunningStack) -> None:
    topic = topic_name()
    async with connected(stack) as client:
        _, hears = await listen(client, topic)
        with psycopg.connect(stack.database_url) as transaction:
            transaction.execute("select realtime.send('{\"n\": 1}', 'ring', %s, false)", [topic])
            transaction.rollback()
            transaction.execute("select realtime.send('{\"n\": 2}', 'ring', %s, false)", [topic])
        assert (await next_of(hears))["payload"]["n"] == 2


# -- private channels


@pytest.fixture
def members(stack: RunningStack) -> Iterator[str]:
    """A table of (topic, user, may_send): its rows are the members of private topics."""
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "topic text, member uuid, may_send boolean", published=False)
        postgres.execute(
            f"create policy {table}_hear on realtime.messages for select to authenticated using (exists ("
            f"select from public.{table} m where m.topic = realtime.topic() and m.member = (select auth.uid())))"
        )
        postgres.execute(
            f"create policy {table}_send on realtime.messages for insert to authenticated with check (exists ("
            f"select from public.{table} m where m.topic = realtime.topic() and m.member = (select auth.uid())"
            f" and m.may_send))"
        )
        yield table
        postgres.execute(f"drop policy {table}_hear on realtime.messages")
        postgres.execute(f"drop policy {table}_send on realtime.messages")


async def test_policies_decide_who_joins_and_who_sends_on_a_private_channel(stack: RunningStack, members: str) -> None:
    topic = topic_name()
    ada, bob, eve = (str(uuid.uuid4()) for _ in range(3))
    with postgres_of(stack) as postgres:
        postgres.execute(f"insert into {members} values ('{topic}', '{ada}', true), ('{topic}', '{bob}', false)")
    async with (
        connected(stack, stack.publishable_key, token=user_token(stack, ada)) as ada_client,
        connected(stack, stack.publishable_key, token=user_token(stack, bob)) as bob_client,
        connected(stack, stack.publishable_key, token=user_token(stack, eve)) as eve_client,
        connected(stack, stack.secret_key) as service,
    ):
        ada_channel, ada_hears = await listen(ada_client, topic, private=True)
        bob_channel, bob_hears = await listen(bob_client, topic, private=True)
        with pytest.raises(PermissionError, match=f"Unauthorized: You do not have permissions .* topic: {topic}"):
            await listen(eve_client, topic, private=True)
        _, eve_hears = await listen(eve_client, f"{topic}-other")
        _, service_hears = await listen(service, topic, private=True)  # passes row level security

        await bob_channel.send_broadcast("forbidden", {})
        await ada_channel.send_broadcast("allowed", {})
        assert (await next_of(bob_hears))["event"] == "allowed"
        assert (await next_of(service_hears))["event"] == "allowed"
        await bob_channel.http_send("forbidden", {})
        await ada_channel.http_send("by http", {})
        assert (await next_of(ada_hears))["event"] == "by http"
        assert (await next_of(service_hears))["event"] == "by http"
        with postgres_of(stack) as postgres:
            postgres.execute("select realtime.send('{}', 'by sql', %s)", [topic])
        assert (await next_of(ada_hears))["event"] == "by sql"
        assert eve_hears.empty()


async def test_losing_the_right_to_hear_ends_the_channel(stack: RunningStack, members: str) -> None:
    topic, ada, eve = topic_name(), str(uuid.uuid4()), str(uuid.uuid4())
    with postgres_of(stack) as postgres:
        postgres.execute(f"insert into {members} values ('{topic}', '{ada}', true)")
    async with open_socket(stack) as socket:
        joined = await socket.join(topic, {"private": True}, token=user_token(stack, ada))
        assert joined["status"] == "ok"
        await socket.send(f"realtime:{topic}", "access_token", {"access_token": user_token(stack, eve)})
        system = await socket.receive()
        closed = await socket.receive()
    assert system["payload"]["status"] == "error"
    assert "no longer have permission" in system["payload"]["message"]
    assert closed["event"] == "phx_close"


async def test_a_trigger_broadcasts_the_changes_of_a_table(stack: RunningStack, members: str) -> None:
    ada, topic = str(uuid.uuid4()), topic_name()
    with postgres_of(stack) as postgres:
        table = create_table(postgres, "id int primary key, title text", published=False)
        postgres.execute(f"insert into {members} values ('{topic}', '{ada}', false)")
        postgres.execute(
            f"create function public.{table}_tell() returns trigger security definer language plpgsql as $$ begin "
            f"perform realtime.broadcast_changes('{topic}', tg_op, tg_op, tg_table_name, tg_table_schema, new, old); "
            "return null; end $$"
        )
        postgres.execute(
            f"create trigger tell after insert or update or delete on {table}"
            f" for each row execute function public.{table}_tell()"
        )
        async with connected(stack, stack.publishable_key, token=user_token(stack, ada)) as client:
            _, hears = await listen(client, topic, private=True)
            postgres.execute(f"insert into {table} values (1, 'ring')")
            postgres.execute(f"update {table} set title = 'band'")
            postgres.execute(f"delete from {table}")
            told = [(await next_of(hears))["payload"] for _ in range(3)]
    assert [(one["operation"], one["record"], one["old_record"]) for one in told] == [
        ("INSERT", {"id": 1, "title": "ring"}, None),
        ("UPDATE", {"id": 1, "title": "band"}, {"id": 1, "title": "ring"}),
        ("DELETE", None, {"id": 1, "title": "band"}),
    ]
    assert (told[0]["table"], told[0]["schema"]) == (table, "public")


async def test_a_user_without_a_policy_cannot_send_from_sql(stack: RunningStack) -> None:
    """`realtime.send` swallows its own errors: the transaction around it goes on."""
    topic = topic_name()
    async with connected(stack) as client:
        _, hears = await listen(client, topic)
        with psycopg.connect(stack.database_url) as transaction:
            transaction.execute("set local role authenticated")
            transaction.execute("select realtime.send('{}', 'ring', %s, false)", [topic])
            transaction.execute("reset role")
            transaction.execute("select realtime.send('{}', 'later', %s, false)", [topic])
        assert (await next_of(hears))["event"] == "later"


# -- binary frames


def binary_push(topic: str, event: str, payload: bytes, *, is_json: bool, ref: str = "2") -> bytes:
    fields = [b"1", ref.encode(), topic.encode(), event.encode(), b""]
    return bytes([3, *map(len, fields), int(is_json)]) + b"".join(fields) + payload


async def test_raw_bytes_reach_version_2_clients_only(stack: RunningStack) -> None:
    topic = topic_name()
    join = json.dumps(["1", "1", f"realtime:{topic}", "phx_join", {"config": {"broadcast": {"self": True}}}])
    async with open_socket(stack, vsn="2.0.0") as socket, connected(stack) as version_1:
        _, hears = await listen(version_1, topic)
        await socket.websocket.send(join)
        assert json.loads(await socket.websocket.recv())[3] == "phx_reply"
        await socket.websocket.send(binary_push(f"realtime:{topic}", "raw", b"\x00\xff", is_json=False))
        frame = await socket.websocket.recv()
        await socket.websocket.send(binary_push(f"realtime:{topic}", "json", b'{"n":1}', is_json=True))
        second_frame = await socket.websocket.recv()
        message = await next_of(hears)
    name = f"realtime:{topic}".encode()
    assert frame == bytes([4, len(name), 3, 0, 0]) + name + b"raw" + b"\x00\xff"
    assert second_frame == bytes([4, len(name), 4, 0, 1]) + name + b"json" + b'{"n":1}'
    assert (message["event"], message["payload"]) == ("json", {"n": 1})
