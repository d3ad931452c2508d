"""Presence: who is on a channel, and what they say of themselves."""

from __future__ import annotations

import uuid
from typing import Any

from embedded.realtime.channels import Channel, ChannelRegistry
from embedded.realtime.frames import to_json

Presences = dict[str, dict[str, list[dict[str, Any]]]]  #: key -> {"metas": [...]}


def push_state(registry: ChannelRegistry, channel: Channel) -> None:
    """Tell a channel who is there."""
    state: Presences = {}
    for member in registry.members(channel.name, private=channel.is_private):
        if member.presence_meta is not None:
            state.setdefault(member.presence_key, {"metas": []})["metas"].append(member.presence_meta)
    channel.push("presence_state", to_json(state))


def track(registry: ChannelRegistry, channel: Channel, payload: dict[str, Any]) -> None:
    """Let a client say something of itself, in place of what it said before."""
    before = channel.presence_meta
    if before is not None and payload == {key: before[key] for key in before if not key.startswith("phx_ref")}:
        return
    meta = payload | {"phx_ref": uuid.uuid4().hex[:20]}
    if before is not None:
        meta["phx_ref_prev"] = before["phx_ref"]
    if not channel.has_presence:  # tracking turns presence on, so this client does not know yet who is there
        channel.has_presence = True
        push_state(registry, channel)
    channel.presence_meta = meta
    _push_diff(registry, channel, joins=meta, leaves=before)


def untrack(registry: ChannelRegistry, channel: Channel) -> None:
    """Let a client be gone; does nothing when it said nothing of itself."""
    meta, channel.presence_meta = channel.presence_meta, None
    if meta is not None:
        _push_diff(registry, channel, joins=None, leaves=meta)


def _push_diff(
    registry: ChannelRegistry, channel: Channel, *, joins: dict[str, Any] | None, leaves: dict[str, Any] | None
) -> None:
    diff = to_json(
        {
            "joins": {} if joins is None else {channel.presence_key: {"metas": [joins]}},
            "leaves": {} if leaves is None else {channel.presence_key: {"metas": [leaves]}},
        }
    )
    for member in registry.members(channel.name, private=channel.is_private):
        if member.has_presence and (not member.is_private or member.may_receive_presence):
            member.push("presence_diff", diff)
