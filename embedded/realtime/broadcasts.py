"""Broadcasts that come from elsewhere than a websocket: from SQL (`realtime.send`) and over HTTP."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from embedded.database import Pool
from embedded.identity import Claims, Identity, InvalidTokenError, KeyRefusedError
from embedded.realtime.authorization import may_send
from embedded.realtime.channels import ChannelRegistry
from embedded.realtime.frames import Broadcast, to_json
from embedded.realtime.pgoutput import Relation, Row
from embedded.realtime.session import MAX_BROADCAST_BYTES

MESSAGES_PUBLICATION = "supabase_realtime_messages_publication"
MESSAGES_KEPT = "3 days"  # as on hosted projects


def is_messages(relation: Relation) -> bool:
    return relation.schema == "realtime" and relation.table == "messages"


def send_from_database(registry: ChannelRegistry, row: Row) -> None:
    """Send a new row of `realtime.messages` to its channel. Who may hear it was asked when they joined."""
    topic, event, payload = row.get("topic"), row.get("event"), row.get("payload")
    if row.get("extension") != "broadcast" or topic is None or event is None or payload is None:
        return
    broadcast = Broadcast(event=event, payload=payload, meta=to_json({"id": row.get("id")}))
    registry.broadcast(topic, broadcast, private=row.get("private") == "t")


async def delete_old_messages(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute(
            "delete from realtime.messages where inserted_at < localtimestamp - %s::interval", [MESSAGES_KEPT]
        )


class BroadcastEndpoints:
    """`POST /api/broadcast`: messages for channels, from clients without a websocket."""

    def __init__(self, pool: Pool, identity: Identity, registry: ChannelRegistry) -> None:
        self._pool = pool
        self._identity = identity
        self._registry = registry

    async def send_batch(self, request: Request) -> Response:
        """`{"messages": [{"topic", "event", "payload", "private"}]}`"""
        claims = self._claims(request)
        if isinstance(claims, Response):
            return claims
        try:
            body = await request.json()
            messages = [_read_message(message) for message in body["messages"]]
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"errors": {"messages": ["topic, event and payload are required"]}}, 422)
        for topic, private, broadcast in messages:
            await self._send(claims, topic, broadcast, private=private)
        return Response(status_code=202)

    async def send_one(self, request: Request) -> Response:
        """The body is the payload: JSON, or raw bytes with `application/octet-stream`."""
        claims = self._claims(request)
        if isinstance(claims, Response):
            return claims
        body = await request.body()
        payload: str | bytes = body
        if not request.headers.get("content-type", "").startswith("application/octet-stream"):
            try:
                payload = to_json(json.loads(body))
            except ValueError:
                return JSONResponse({"error": "The body is not JSON"}, 422)
        broadcast = Broadcast(event=request.path_params["event"], payload=payload)
        private = request.query_params.get("private") == "true"
        await self._send(claims, request.path_params["topic"], broadcast, private=private)
        return Response(status_code=202)

    def _claims(self, request: Request) -> Claims | Response:
        try:
            return self._identity.claims_of_request(request.headers, request.query_params)
        except KeyRefusedError as error:
            return JSONResponse(error.body, error.status)
        except InvalidTokenError:
            return JSONResponse({"error": "Unauthorized"}, 401)

    async def _send(self, claims: Claims, topic: str, broadcast: Broadcast, *, private: bool) -> None:
        """Send, unless a policy forbids it or it is too large: neither is told, as on hosted projects."""
        if broadcast.size > MAX_BROADCAST_BYTES:
            return
        if private:
            try:
                if not await may_send(self._pool, claims, topic, "broadcast"):
                    return
            except psycopg.OperationalError:
                return
        self._registry.broadcast(topic, broadcast, private=private)


def _read_message(message: dict[str, Any]) -> tuple[str, bool, Broadcast]:
    """Topic, whether it is private, and the broadcast of one message of a batch. Raises `KeyError`, `TypeError`."""
    topic, event = message["topic"], message["event"]
    if not isinstance(topic, str) or not isinstance(event, str):
        raise TypeError
    return topic, bool(message.get("private")), Broadcast(event=event, payload=to_json(message["payload"]))
