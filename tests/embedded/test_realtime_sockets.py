"""What a websocket is answered: handshake, heartbeat, joins, tokens, and clients that do not read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket as sockets
import time
from urllib.parse import urlencode, urlsplit

import httpx
import jwt
import pytest
import websockets

from tests.embedded.realtime_support import (
    PATIENCE_S,
    open_socket,
    topic_name,
    user_token,
)
from tests.stack import RunningStack


@pytest.mark.parametrize("key", ["", "sb_publishable_unknown", "a.b.c"])
async def test_a_wrong_key_is_refused_before_the_websocket_opens(stack: RunningStack, key: str) -> None:
    url = stack.url.replace("http", "ws", 1) + "/realtime/v1/websocket?" + urlencode({"apikey": key})
    with pytest.raises(websockets.InvalidStatus) as refusal:
        await websockets.connect(url)
    assert refusal.value.response.status_code == 401
    assert "error" in json.loads(refusal.value.response.body)


async def test_both_generations_of_keys_and_the_header_open_it(stack: RunningStack) -> None:
    for key in (stack.publishable_key, stack.secret_key, stack.anon_jwt, stack.service_role_jwt):
        async with open_socket(stack, key) as socket:
            await socket.send("phoenix", "heartbeat")
            assert (await socket.receive())["payload"] == {"status": "ok", "response": {}}
    url = stack.url.replace("http", "ws", 1) + "/realtime/v1/websocket"
    async with websockets.connect(url, additional_headers={"x-api-key": stack.publishable_key}) as websocket:
        await websocket.ping()


async def test_version_2_speaks_in_lists(stack: RunningStack) -> None:
    async with open_socket(stack, vsn="2.0.0") as socket:
        await socket.websocket.send(json.dumps([None, "1", "phoenix", "heartbeat", {}]))
        assert json.loads(await socket.websocket.recv()) == [
            None, "1", "phoenix", "phx_reply", {"status": "ok", "response": {}},
        ]  # fmt: skip
        await socket.websocket.send(json.dumps(["2", "2", "realtime:x", "phx_join", {"config": {}}]))
        assert json.loads(await socket.websocket.recv()) == [
            "2", "2", "realtime:x", "phx_reply", {"status": "ok", "response": {"postgres_changes": []}},
        ]  # fmt: skip


async def test_a_frame_that_is_none_ends_the_connection(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.websocket.send("not json")
        with pytest.raises(websockets.ConnectionClosed):
            await socket.websocket.recv()


async def test_leaving_is_answered_and_closes(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.join("left")
        ref = await socket.send("realtime:left", "phx_leave", join_ref="1")
        reply, close = await socket.receive(), await socket.receive()
        await socket.send("realtime:left", "broadcast", {"event": "x"})
        unmatched = await socket.receive()
    assert (reply["event"], reply["ref"], reply["payload"]["status"]) == ("phx_reply", ref, "ok")
    assert (close["event"], close["ref"]) == ("phx_close", "1")
    assert unmatched["payload"] == {"status": "error", "response": {"reason": "unmatched topic"}}


async def test_a_second_join_closes_the_first(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.join("twice")
        assert (await socket.join("twice"))["status"] == "ok"
        close = await socket.receive()
    assert (close["event"], close["ref"], close["join_ref"]) == ("phx_close", "1", "1")


async def test_joins_that_cannot_be_are_refused_with_a_reason(stack: RunningStack) -> None:
    unreadable = "not-a-token"
    expired = user_token(stack, "ada", lifetime_s=-1)
    foreign = jwt.encode({"role": "authenticated", "exp": time.time() + 60}, "x" * 32, "HS256")
    endless = jwt.encode({"role": "authenticated"}, stack.jwt_secret, "HS256")
    async with open_socket(stack) as socket:
        answers = [
            await socket.join(""),
            await socket.join("x", token=unreadable),
            await socket.join("x", token=expired),
            await socket.join("x", token=foreign),
            await socket.join("x", token=endless),
            await socket.join("x", {"private": True}),
            await socket.join("x", {"private": True, "broadcast": {"replay": {"since": 0}}}),
        ]
        for number in range(100):
            assert (await socket.join(f"many-{number}"))["status"] == "ok"
        answers.append(await socket.join("one-too-many"))
    assert all(answer["status"] == "error" for answer in answers)
    assert [answer["response"]["reason"].split(":")[0] for answer in answers] == [
        "TopicNameRequired",
        "MalformedJWT",
        "InvalidJWTToken",
        "JwtSignatureError",
        "InvalidJWTToken",
        "Unauthorized",
        "UnableToReplayMessages",
        "ChannelRateLimitReached",
    ]


async def test_a_channel_ends_with_its_token(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.join("short", token=user_token(stack, "ada", lifetime_s=1))
        system, close = await socket.receive(), await socket.receive()
        await socket.send("phoenix", "heartbeat")
        assert (await socket.receive())["event"] == "phx_reply"  # the connection lives on
    assert (system["event"], system["payload"]["status"]) == ("system", "error")
    assert system["payload"]["message"] == "Token has expired"
    assert (close["event"], close["topic"]) == ("phx_close", "realtime:short")


async def test_a_newer_token_keeps_a_channel_alive(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.join("renewed", {"broadcast": {"self": True}}, token=user_token(stack, "ada", lifetime_s=1))
        await socket.send("realtime:renewed", "access_token", {"access_token": user_token(stack, "ada")})
        await asyncio.sleep(1.2)
        await socket.send("realtime:renewed", "broadcast", {"event": "still here", "payload": {}})
        assert (await socket.receive())["payload"]["event"] == "still here"


async def test_a_bad_newer_token_ends_the_channel(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.join("worse")
        await socket.send("realtime:worse", "access_token", {"access_token": "a.b.c"})
        system, close = await socket.receive(), await socket.receive()
    assert (system["payload"]["status"], close["event"]) == ("error", "phx_close")


async def test_a_client_that_does_not_read_is_cut_off_and_holds_up_nobody(stack: RunningStack) -> None:
    topic, messages = topic_name(), 16
    join = json.dumps(["1", "1", f"realtime:{topic}", "phx_join", {"config": {}}])
    address = urlsplit(stack.url)
    narrow = sockets.socket()
    narrow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
    narrow.connect((address.hostname, address.port))
    url = f"{stack.url.replace('http', 'ws', 1)}/realtime/v1/websocket?" + urlencode(
        {"apikey": stack.publishable_key, "vsn": "2.0.0"}
    )
    async with (
        # max_queue: what this one does not take stays in the server's hands.
        websockets.connect(url, sock=narrow, max_queue=1, max_size=None, ping_interval=None) as idle,
        websockets.connect(url, max_size=None) as reader,
        httpx.AsyncClient() as http,
    ):
        for websocket in (idle, reader):
            await websocket.send(join)
            await websocket.recv()
        payload = random.randbytes(2 * 1024 * 1024)  # compression shall not save the idle one
        for _ in range(messages):
            response = await http.post(
                f"{stack.url}/realtime/v1/api/broadcast/{topic}/events/large",
                headers={"apikey": stack.publishable_key, "content-type": "application/octet-stream"},
                content=payload,
            )
            assert response.status_code == 202
            async with asyncio.timeout(PATIENCE_S):
                assert (await reader.recv())[-len(payload) :] == payload

        received = 0
        with contextlib.suppress(websockets.ConnectionClosed):
            while received < messages:
                async with asyncio.timeout(PATIENCE_S):
                    await idle.recv()
                received += 1
    assert received < messages
