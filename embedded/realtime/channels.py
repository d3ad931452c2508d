"""Channels: what a client has joined, and who else is there."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from embedded.identity import Claims
from embedded.realtime.connection import Connection
from embedded.realtime.frames import Broadcast, broadcast_frame, text_frame, to_json
from embedded.realtime.subscriptions import Subscription

TOPIC_PREFIX = "realtime:"
MAX_PRESENCE_CALLS = 5  # of one client, within the window; more close its channel
PRESENCE_WINDOW_S = 30.0


class Channel:
    """One client's membership in a topic."""

    def __init__(
        self,
        connection: Connection,
        *,
        topic: str,
        join_ref: str | None,
        config: dict[str, Any],
        claims: Claims,
        token: str | None,
    ) -> None:
        broadcast, presence = _section(config, "broadcast"), _section(config, "presence")
        self.connection = connection
        self.topic = topic
        self.join_ref = join_ref
        self.claims = claims
        self.token = token  #: the token the claims were read from, as the client sent it
        self.is_private = bool(config.get("private"))
        self.acknowledges_broadcasts = bool(broadcast.get("ack"))
        self.hears_itself = bool(broadcast.get("self"))
        self.presence_key = str(presence.get("key") or uuid.uuid4())
        self.has_presence = bool(presence.get("enabled"))
        self.presence_meta: dict[str, Any] | None = None  #: what it tracks, with its `phx_ref`
        asked = config.get("postgres_changes")
        #: The row changes it asked for, as it wrote them; and those that flow by now.
        self.asked = [one for one in asked if isinstance(one, dict)] if isinstance(asked, list) else []
        self.subscriptions: list[Subscription] = []
        #: Private channels only: what the policies on realtime.messages allow. None: not asked yet.
        self.may_receive_broadcasts: bool | None = None
        self.may_receive_presence: bool | None = None
        self.may_send_broadcasts: bool | None = None
        self.may_send_presence: bool | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.subscribing: asyncio.Task[None] | None = None
        self._presence_calls = 0
        self._presence_window_end = 0.0

    @property
    def name(self) -> str:
        """The topic as users know it, without the prefix."""
        return self.topic.removeprefix(TOPIC_PREFIX)

    def push(self, event: str, payload: str, *, ref: str | None = None) -> None:
        """Send an event that nobody asked for; `payload` is JSON text."""
        self.connection.send(
            text_frame(self.connection.version, topic=self.topic, event=event, payload=payload, ref=ref, join_ref=ref)
        )

    def push_system(self, extension: str, status: str, message: str) -> None:
        self.push(
            "system",
            to_json({"extension": extension, "status": status, "message": message, "channel": self.name}),
        )

    def push_end(self, event: str) -> None:
        """`phx_close`: the channel is over; `phx_error`: the client shall join anew."""
        self.push(event, "{}", ref=self.join_ref)

    def push_broadcast(self, broadcast: Broadcast) -> None:
        frame = broadcast_frame(self.connection.version, topic=self.topic, broadcast=broadcast)
        if frame is not None:
            self.connection.send(frame)

    def counts_presence_call(self) -> bool:
        """Count one more presence call; False when it is one too many."""
        now = time.monotonic()
        if now > self._presence_window_end:
            self._presence_calls, self._presence_window_end = 0, now + PRESENCE_WINDOW_S
        self._presence_calls += 1
        return self._presence_calls <= MAX_PRESENCE_CALLS

    def cancel_timers(self) -> None:
        """Stop what was to happen later on this channel."""
        if self.expiry is not None:
            self.expiry.cancel()
        if self.subscribing is not None:
            self.subscribing.cancel()


class ChannelRegistry:
    """Everybody who has joined something. Private and public channels of one name are apart."""

    def __init__(self) -> None:
        self._members: defaultdict[tuple[str, bool], dict[Channel, None]] = defaultdict(dict)

    def __iter__(self) -> Iterator[Channel]:
        for members in list(self._members.values()):
            yield from list(members)

    def add(self, channel: Channel) -> None:
        self._members[channel.name, channel.is_private][channel] = None
        channel.connection.channels[channel.topic] = channel

    def remove(self, channel: Channel) -> None:
        """Take a channel out; does nothing when it is out already."""
        channel.cancel_timers()
        key = channel.name, channel.is_private
        if key in self._members:
            self._members[key].pop(channel, None)
            if not self._members[key]:
                del self._members[key]
        if channel.connection.channels.get(channel.topic) is channel:
            del channel.connection.channels[channel.topic]

    def __contains__(self, channel: Channel) -> bool:
        return channel.connection.channels.get(channel.topic) is channel

    def members(self, name: str, *, private: bool) -> Collection[Channel]:
        """Who is on the channel called `name`, in the order of joining."""
        return list(self._members.get((name, private), ()))

    def broadcast(self, name: str, broadcast: Broadcast, *, private: bool, sender: Channel | None = None) -> None:
        """Send to all members, to the sender only when it wants to hear itself."""
        for channel in self.members(name, private=private):
            if channel is sender and not channel.hears_itself:
                continue
            if private and not channel.may_receive_broadcasts:
                continue
            channel.push_broadcast(broadcast)


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}
