"""Presence as the official Python client sees it."""

from __future__ import annotations

import asyncio
from typing import Any

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient

from tests.embedded.realtime_support import connected, next_of, open_socket, topic_name
from tests.stack import RunningStack


class Room:
    """A channel's presence: what comes and goes, as (what, key)."""

    def __init__(self, client: AsyncRealtimeClient, topic: str, key: str) -> None:
        options: Any = {"config": {"broadcast": {}, "presence": {"key": key, "enabled": True}, "private": False}}
        self.channel: AsyncRealtimeChannel = client.channel(topic, options)
        self.events: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.channel.on_presence_join(lambda key, current, new: self.events.put_nowait(("join", key)))
        self.channel.on_presence_leave(lambda key, current, left: self.events.put_nowait(("leave", key)))

    def state(self) -> dict[str, list[dict[str, Any]]]:
        """What is known of each key, without references."""
        return {
            key: [{name: one[name] for name in one if name != "presence_ref"} for one in presences]  # type: ignore[literal-required]
            for key, presences in self.channel.presence_state().items()
        }


async def test_members_see_each_other_come_change_and_go(stack: RunningStack) -> None:
    topic = topic_name()
    async with connected(stack) as first_client:
        ada = Room(first_client, topic, "ada")
        await ada.channel.subscribe()
        await ada.channel.track({"mood": "calm"})
        assert await next_of(ada.events) == ("join", "ada")

        async with connected(stack) as second_client:
            bob = Room(second_client, topic, "bob")
            await bob.channel.subscribe()
            assert await next_of(bob.events) == ("join", "ada")  # from the state that follows the join
            await bob.channel.track({"mood": "bright"})
            assert await next_of(ada.events) == ("join", "bob")
            assert ada.state() == {"ada": [{"mood": "calm"}], "bob": [{"mood": "bright"}]}

            await bob.channel.track({"mood": "tired"})
            assert {await next_of(ada.events), await next_of(ada.events)} == {("join", "bob"), ("leave", "bob")}
            assert ada.state()["bob"] == [{"mood": "tired"}]
            await ada.channel.untrack()
            assert await next_of(ada.events) == ("leave", "ada")
        # Bob's connection is gone.
        assert await next_of(ada.events) == ("leave", "bob")
        assert ada.state() == {}


async def test_presence_without_a_key_gets_one(stack: RunningStack) -> None:
    topic = topic_name()
    async with connected(stack) as client:
        room = Room(client, topic, "")
        await room.channel.subscribe()
        await room.channel.track({})
        _, key = await next_of(room.events)
    assert len(key) == 36


async def test_too_many_presence_calls_close_the_channel(stack: RunningStack) -> None:
    async with open_socket(stack) as socket:
        await socket.join("crowded", {"presence": {"enabled": False}})
        for n in range(6):
            await socket.send("realtime:crowded", "presence", {"event": "track", "payload": {"n": n}})
        frames: list[dict[str, Any]] = []
        while not frames or frames[-1]["event"] != "phx_close":
            frames.append(await socket.receive())
    assert frames[-2]["payload"]["message"] == "Client presence rate limit exceeded"
    assert [frame["event"] for frame in frames].count("phx_reply") == 5
