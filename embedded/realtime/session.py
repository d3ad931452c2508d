"""What one client asks for, message by message: join, leave, heartbeat, tokens, broadcast, presence.

Behaviour and wording: supabase/realtime, lib/realtime_web/channels/realtime_channel.ex (read 2026-11-20).
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import psycopg

from embedded.database import Pool
from embedded.identity import Identity
from embedded.realtime import presence
from embedded.realtime.authorization import may_receive, may_send
from embedded.realtime.channels import TOPIC_PREFIX, Channel, ChannelRegistry
from embedded.realtime.connection import Connection
from embedded.realtime.frames import ClientMessage, text_frame, to_json
from embedded.realtime.subscriptions import Subscription, SubscriptionError, subscription_id
from embedded.realtime.tokens import TokenRefusedError, is_api_key, read_token

logger = logging.getLogger(__name__)

MAX_CHANNELS = 100  # of one connection
MAX_BROADCAST_BYTES = 3 * 1024 * 1024
SUBSCRIBE_RETRY_S = 5.0  # a table may be added to the publication meanwhile
LONGEST_TIMER_S = 3600.0  # tokens that last longer are looked at again each hour


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionServices:
    """What every session shares."""

    pool: Pool
    identity: Identity
    registry: ChannelRegistry
    streaming: asyncio.Event  #: set while changes flow from Postgres
    ready_delay_s: float


class JoinRefusedError(Exception):
    """`str(error)` is the reason, as the client is told."""


class Session:
    def __init__(self, services: SessionServices, connection: Connection) -> None:
        self._services = services
        self._connection = connection

    async def handle(self, message: ClientMessage) -> None:
        if message.topic == "phoenix" and message.event == "heartbeat":
            return self._reply(message)
        if message.event == "phx_join":
            return await self._join(message)
        channel = self._connection.channels.get(message.topic)
        if message.event == "phx_leave":
            return self._leave(message, channel)
        if channel is None:
            return self._reply(message, "error", {"reason": "unmatched topic"})
        try:
            match message.event:
                case "access_token":
                    await self._access_token(channel, message.payload.get("access_token"))
                case "broadcast":
                    await self._broadcast(channel, message)
                case "presence":
                    await self._presence(channel, message)
        except psycopg.OperationalError:
            self._shut_down(channel, "Realtime was unable to connect to the project database")
        return None

    def end(self) -> None:
        """The connection is gone: so is everything it has joined."""
        for channel in list(self._connection.channels.values()):
            self._remove(channel)

    def _reply(self, message: ClientMessage, status: str = "ok", response: object = None) -> None:
        self._connection.send(
            text_frame(
                self._connection.version,
                topic=message.topic,
                event="phx_reply",
                payload=to_json({"status": status, "response": {} if response is None else response}),
                ref=message.ref,
                join_ref=message.join_ref,
            )
        )

    def _remove(self, channel: Channel) -> None:
        self._services.registry.remove(channel)
        presence.untrack(self._services.registry, channel)

    def _shut_down(self, channel: Channel, message: str) -> None:
        """End a channel for a reason that the client is told; it does not join again by itself."""
        channel.push_system("system", "error", message)
        channel.push_end("phx_close")
        self._remove(channel)

    # -- join and leave

    async def _join(self, message: ClientMessage) -> None:
        replaced = self._connection.channels.get(message.topic)
        if replaced is not None:
            self._remove(replaced)
        try:
            channel = await self._admit(message)
        except JoinRefusedError as refusal:
            self._reply(message, "error", {"reason": str(refusal)})
        else:
            self._services.registry.add(channel)
            self._reply(
                message, "ok", {"postgres_changes": [one | {"id": subscription_id(one)} for one in channel.asked]}
            )
            self._watch_expiry(channel)
            if channel.has_presence and (not channel.is_private or channel.may_receive_presence):
                presence.push_state(self._services.registry, channel)
            self._subscribe_later(channel)
        if replaced is not None:
            replaced.push_end("phx_close")

    async def _admit(self, message: ClientMessage) -> Channel:
        if not message.topic.startswith(TOPIC_PREFIX):
            raise JoinRefusedError("unmatched topic")
        if message.topic == TOPIC_PREFIX:
            raise JoinRefusedError("TopicNameRequired: You must provide a topic name")
        if len(self._connection.channels) >= MAX_CHANNELS:
            raise JoinRefusedError("ChannelRateLimitReached: Too many channels")
        config = message.payload.get("config")
        config = config if isinstance(config, dict) else {}
        if isinstance(config.get("broadcast"), dict) and config["broadcast"].get("replay") is not None:
            raise JoinRefusedError("UnableToReplayMessages: The embedded Realtime does not replay messages")
        token = message.payload.get("access_token")
        token = token if isinstance(token, str) and token and not is_api_key(token) else None
        claims = self._connection.claims
        if token is not None:
            try:
                claims = read_token(self._services.identity, token)
            except TokenRefusedError as error:
                raise JoinRefusedError(error.reason) from error
        channel = Channel(
            self._connection,
            topic=message.topic,
            join_ref=message.join_ref or message.ref,
            config=config,
            claims=claims,
            token=token,
        )
        if channel.is_private and not await self._may_listen(channel):
            raise JoinRefusedError(
                f"Unauthorized: You do not have permissions to read from this Channel topic: {channel.name}"
            )
        return channel

    async def _may_listen(self, channel: Channel) -> bool:
        """Ask the policies what a private channel may hear, and keep the answer."""
        try:
            allowed = await may_receive(self._services.pool, channel.claims, channel.name)
        except psycopg.OperationalError as error:
            raise JoinRefusedError("InitializingProjectConnection: Connecting to the project database") from error
        channel.may_receive_broadcasts = allowed.broadcast
        channel.may_receive_presence = allowed.presence
        channel.may_send_broadcasts = channel.may_send_presence = None
        return allowed.broadcast or allowed.presence

    def _leave(self, message: ClientMessage, channel: Channel | None) -> None:
        self._reply(message)
        if channel is not None:
            self._remove(channel)
            channel.push_end("phx_close")

    # -- row changes

    def _subscribe_later(self, channel: Channel) -> None:
        if not channel.asked:
            return
        if channel.subscribing is not None:
            channel.subscribing.cancel()
        channel.subscribing = asyncio.create_task(self._subscribe(channel), name="realtime.subscribe")

    async def _subscribe(self, channel: Channel) -> None:
        """Let changes flow on a channel, and say so, a while after the join was answered."""
        while True:
            try:
                await self._services.streaming.wait()
                await asyncio.sleep(self._services.ready_delay_s)
                subscriptions = [Subscription(parameters) for parameters in channel.asked]
                for subscription in subscriptions:
                    await subscription.check(self._services.pool, channel.claims.role)
                await self._services.streaming.wait()
            except SubscriptionError as error:
                channel.subscriptions = []
                channel.push_system("postgres_changes", "error", str(error))
                if not error.may_change:
                    return
            except psycopg.OperationalError:
                pass  # Postgres is restarting, say; it will be back
            except Exception:
                logger.exception("realtime.subscribe_failed")
                self._shut_down(channel, "Unknown Error on Channel")
                return
            else:
                channel.subscriptions = subscriptions
                channel.push_system("postgres_changes", "ok", "Subscribed to PostgreSQL")
                return
            await asyncio.sleep(SUBSCRIBE_RETRY_S)

    # -- tokens

    def _watch_expiry(self, channel: Channel) -> None:
        if channel.expiry is not None:
            channel.expiry.cancel()
        expires_at = channel.claims.expires_at
        if expires_at is not None:
            wait_s = min(max(expires_at - time.time(), 0.0), LONGEST_TIMER_S)
            channel.expiry = asyncio.get_running_loop().call_later(wait_s, self._check_expiry, channel)

    def _check_expiry(self, channel: Channel) -> None:
        expires_at = channel.claims.expires_at
        if expires_at is not None and expires_at <= time.time():
            self._shut_down(channel, "Token has expired")
        else:
            self._watch_expiry(channel)

    async def _access_token(self, channel: Channel, token: object) -> None:
        """Let a channel act by another token from now on."""
        if not isinstance(token, str) or is_api_key(token) or token == channel.token:
            return
        heard_before = channel.may_receive_broadcasts, channel.may_receive_presence
        try:
            channel.claims = read_token(self._services.identity, token)
            channel.token = token
            if channel.is_private:
                await self._may_listen(channel)
        except (TokenRefusedError, JoinRefusedError) as error:
            self._shut_down(channel, str(error))
            return
        hears_now = channel.may_receive_broadcasts, channel.may_receive_presence
        if any(before and not now for before, now in zip(heard_before, hears_now, strict=True)):
            self._shut_down(channel, f"You no longer have permission to read from this Channel topic: {channel.name}")
            return
        self._watch_expiry(channel)
        self._subscribe_later(channel)

    # -- broadcast and presence

    async def _broadcast(self, channel: Channel, message: ClientMessage) -> None:
        broadcast = message.broadcast
        assert broadcast is not None
        if channel.is_private:
            if channel.may_send_broadcasts is None:
                channel.may_send_broadcasts = await may_send(
                    self._services.pool, channel.claims, channel.name, "broadcast"
                )
            if not channel.may_send_broadcasts:
                return  # without an answer, as on hosted projects
        if broadcast.size > MAX_BROADCAST_BYTES:
            if channel.acknowledges_broadcasts:
                self._reply(message, "error", {"reason": "payload_size_exceeded"})
            return
        self._services.registry.broadcast(channel.name, broadcast, private=channel.is_private, sender=channel)
        if channel.acknowledges_broadcasts:
            self._reply(message)

    async def _presence(self, channel: Channel, message: ClientMessage) -> None:
        if not channel.counts_presence_call():
            return self._shut_down(channel, "Client presence rate limit exceeded")
        match str(message.payload.get("event", "")).lower():
            case "track":
                if channel.is_private and channel.may_send_presence is None:
                    channel.may_send_presence = await may_send(
                        self._services.pool, channel.claims, channel.name, "presence"
                    )
                payload = message.payload.get("payload", {})
                if channel.is_private and not channel.may_send_presence:
                    return self._reply(message, "error")
                if not isinstance(payload, dict):
                    return self._reply(message, "error", {"reason": "Presence track payload must be a map"})
                presence.track(self._services.registry, channel, payload)
            case "untrack":
                presence.untrack(self._services.registry, channel)
            case _:
                return self._reply(message, "error")
        return self._reply(message)
