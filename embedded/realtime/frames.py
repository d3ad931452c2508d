"""The two versions of the Phoenix protocol that Supabase clients speak: realtime-py 1.0.0, realtime-js 2.0.0.

Version 1 frames are JSON objects, version 2 frames JSON lists. Version 2 also has binary frames for broadcasts
(`lib/serializer.ts` of @supabase/realtime-js 2.119); all their lengths are one byte:

    3, client to server: 3, lengths of join_ref, ref, topic, event and meta, encoding, those fields, payload
    4, server to client: 4, lengths of topic, event and meta, encoding, those fields, payload
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

USER_BROADCAST_PUSH = 3
USER_BROADCAST = 4
RAW_ENCODING = 0
JSON_ENCODING = 1
MAX_FIELD_BYTES = 255  # lengths in binary frames are one byte


class Version(Enum):
    V1 = "1.0.0"
    V2 = "2.0.0"

    @classmethod
    def of_query(cls, vsn: str | None) -> Version:
        """The version that a client asks for with `vsn`; clients from before that parameter speak 1.0.0."""
        return cls.V2 if vsn is not None and vsn.startswith("2.") else cls.V1


class FrameError(ValueError):
    """A frame that neither version of the protocol knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """A message from one member of a channel to the others."""

    event: str
    payload: str | bytes  #: JSON text, or raw bytes (only version 2 clients can receive those)
    meta: str | None = None  #: JSON text
    in_binary_frame: bool = False  #: came as a binary frame, so version 2 clients get it as one

    @property
    def size(self) -> int:
        """Length of the payload in bytes (characters for JSON, near enough for a limit)."""
        return len(self.payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientMessage:
    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: dict[str, Any]
    broadcast: Broadcast | None = None  #: set when `event` is "broadcast"


def decode_text(text: str) -> ClientMessage:
    """Read a text frame of either version.

    Raises:
        FrameError: It is not one.
    """
    try:
        frame = json.loads(text)
    except ValueError as error:
        raise FrameError("not JSON") from error
    if isinstance(frame, list) and len(frame) == 5:
        join_ref, ref, topic, event, payload = frame
    elif isinstance(frame, dict):
        join_ref, ref, topic, event, payload = (
            frame.get(field) for field in ("join_ref", "ref", "topic", "event", "payload")
        )
    else:
        raise FrameError("neither an object nor a list of five")
    if not isinstance(topic, str) or not isinstance(event, str):
        raise FrameError("no topic or no event")
    payload = payload if isinstance(payload, dict) else {}
    return ClientMessage(
        join_ref=None if join_ref is None else str(join_ref),
        ref=None if ref is None else str(ref),
        topic=topic,
        event=event,
        payload=payload,
        broadcast=_broadcast_of(payload) if event == "broadcast" else None,
    )


def decode_binary(data: bytes) -> ClientMessage:
    """Read a binary frame: a broadcast.

    Raises:
        FrameError: It is of another kind, cut short, or not UTF-8 where it must be.
    """
    if len(data) < 7 or data[0] != USER_BROADCAST_PUSH:
        raise FrameError("not a binary broadcast")
    fields: list[str] = []
    position = 7
    try:
        for length in data[1:6]:
            fields.append(data[position : position + length].decode())
            position += length
        if position > len(data):
            raise FrameError("cut short")
        join_ref, ref, topic, event, meta = fields
        payload = data[position:]
        broadcast = Broadcast(
            event=event,
            payload=payload.decode() if data[6] == JSON_ENCODING else payload,
            meta=meta or None,
            in_binary_frame=True,
        )
    except UnicodeDecodeError as error:
        raise FrameError("not UTF-8") from error
    return ClientMessage(
        join_ref=join_ref or None,
        ref=ref or None,
        topic=topic,
        event="broadcast",
        payload={},
        broadcast=broadcast,
    )


def _broadcast_of(payload: dict[str, Any]) -> Broadcast:
    return Broadcast(event=str(payload.get("event", "")), payload=to_json(payload.get("payload", {})))


def to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def text_frame(
    version: Version,
    *,
    topic: str,
    event: str,
    payload: str,
    ref: str | None = None,
    join_ref: str | None = None,
) -> str:
    """A frame to a client; `payload` is JSON text. What the server sends unasked has no `ref`."""
    if version is Version.V2:
        return f"[{to_json(join_ref)},{to_json(ref)},{to_json(topic)},{to_json(event)},{payload}]"
    # realtime-py drops a frame in which the key `ref` is missing, so null is written out.
    return (
        f'{{"topic":{to_json(topic)},"event":{to_json(event)},"payload":{payload},'
        f'"ref":{to_json(ref)},"join_ref":{to_json(join_ref)}}}'
    )


def broadcast_frame(version: Version, *, topic: str, broadcast: Broadcast) -> str | bytes | None:
    """A broadcast as a client of this version receives it; None when it cannot be told to such a client."""
    raw = isinstance(broadcast.payload, bytes)
    if version is Version.V2 and (broadcast.in_binary_frame or raw):
        binary = _binary_broadcast_frame(topic, broadcast)
        if binary is not None:
            return binary
    if raw:
        return None
    meta = "" if broadcast.meta is None else f',"meta":{broadcast.meta}'
    payload = f'{{"type":"broadcast","event":{to_json(broadcast.event)},"payload":{broadcast.payload!s}{meta}}}'
    return text_frame(version, topic=topic, event="broadcast", payload=payload)


def _binary_broadcast_frame(topic: str, broadcast: Broadcast) -> bytes | None:
    fields = [topic.encode(), broadcast.event.encode(), (broadcast.meta or "").encode()]
    if any(len(field) > MAX_FIELD_BYTES for field in fields):
        return None
    if isinstance(broadcast.payload, bytes):
        encoding, payload = RAW_ENCODING, broadcast.payload
    else:
        encoding, payload = JSON_ENCODING, broadcast.payload.encode()
    return bytes([USER_BROADCAST, *map(len, fields), encoding]) + b"".join(fields) + payload
