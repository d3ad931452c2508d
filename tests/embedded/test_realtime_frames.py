"""Frames and filters, as text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.realtime.filters import Filter, FilterError, parse_filters
from embedded.realtime.frames import (
    Broadcast,
    FrameError,
    Version,
    broadcast_frame,
    decode_binary,
    decode_text,
    text_frame,
)


def test_both_versions_say_the_same() -> None:
    version_1 = decode_text('{"topic": "t", "event": "e", "payload": {"n": 1}, "ref": "2", "join_ref": "1"}')
    assert version_1 == decode_text('["1", "2", "t", "e", {"n": 1}]')
    assert (version_1.join_ref, version_1.ref, version_1.payload) == ("1", "2", {"n": 1})


@pytest.mark.parametrize("text", ["", "1", "[]", "{}", '["1", "2", null, "e", {}]', '{"topic": "t"}'])
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(FrameError):
        decode_text(text)


@pytest.mark.parametrize("data", [b"", b"\x03", bytes([9, 0, 0, 0, 0, 0, 0]), bytes([3, 0, 0, 9, 0, 0, 1]) + b"short"])
def test_what_is_no_binary_frame_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError):
        decode_binary(data)


def test_frames_that_nobody_asked_for_carry_a_null_ref() -> None:
    """realtime-py loses a frame without that key."""
    frame = text_frame(Version.V1, topic="t", event="e", payload="{}")
    assert json.loads(frame) == {"topic": "t", "event": "e", "payload": {}, "ref": None, "join_ref": None}
    assert json.loads(text_frame(Version.V2, topic="t", event="e", payload="{}")) == [None, None, "t", "e", {}]


def test_a_clients_without_version_speaks_the_first() -> None:
    assert [Version.of_query(vsn) for vsn in (None, "1.0.0", "2.0.0")] == [Version.V1, Version.V1, Version.V2]


@given(event=st.text(max_size=60), text=st.text(), meta=st.none() | st.just('{"id":"x"}'))
def test_a_broadcast_survives_every_way_to_a_client(event: str, text: str, meta: str | None) -> None:
    payload = json.dumps({"text": text})
    broadcast = Broadcast(event=event, payload=payload, meta=meta, in_binary_frame=True)
    binary = broadcast_frame(Version.V2, topic="realtime:ä", broadcast=broadcast)
    assert isinstance(binary, bytes)
    kind, topic_length, event_length, meta_length, encoding = binary[:5]
    rest = binary[5:]
    assert (kind, encoding) == (4, 1)
    assert rest[:topic_length].decode() == "realtime:ä"
    assert rest[topic_length : topic_length + event_length].decode() == event
    assert rest[topic_length + event_length :][:meta_length].decode() == (meta or "")
    assert json.loads(rest[topic_length + event_length + meta_length :]) == {"text": text}

    frame = broadcast_frame(Version.V1, topic="realtime:ä", broadcast=broadcast)
    assert isinstance(frame, str)
    expected = {"type": "broadcast", "event": event, "payload": {"text": text}}
    assert json.loads(frame)["payload"] == expected | ({} if meta is None else {"meta": {"id": "x"}})


def test_an_event_too_long_for_a_binary_frame_goes_as_text() -> None:
    long = Broadcast(event="e" * 256, payload="{}", in_binary_frame=True)
    assert isinstance(broadcast_frame(Version.V2, topic="t", broadcast=long), str)
    raw = Broadcast(event="e" * 256, payload=b"\x00")
    assert broadcast_frame(Version.V2, topic="t", broadcast=raw) is None


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        (None, []),
        ("  ", []),
        ("id=eq.7", [("id", "eq", "7", False)]),
        ("id=not.eq.7", [("id", "eq", "7", True)]),
        ("a=eq.1, b=lt.2", [("a", "eq", "1", False), ("b", "lt", "2", False)]),
        ("a=in.(1,2),b=gt.3", [("a", "in", "{1,2}", False), ("b", "gt", "3", False)]),
        ('a=eq."x,y",b=eq.z', [("a", "eq", "x,y", False), ("b", "eq", "z", False)]),
        (r'a=eq."say \"x\" \\"', [("a", "eq", 'say "x" \\', False)]),
        ('a=in.("x,(y",z)', [("a", "in", '{"x,(y",z}', False)]),
        ("a=eq.x=y.z", [("a", "eq", "x=y.z", False)]),
        ('a=eq.5"', [("a", "eq", '5"', False)]),
        ('a=eq."x"y', [("a", "eq", '"x"y', False)]),
        ("a=eq.", [("a", "eq", "", False)]),
    ],
)
def test_filters_are_read_as_realtime_reads_them(text: str | None, filters: list[tuple[str, str, str, bool]]) -> None:
    assert parse_filters(text) == tuple(
        Filter(column=column, operator=operator, value=value, negated=negated)
        for column, operator, value, negated in filters
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("undefined", 'Error parsing `filter` params: ["undefined"]'),
        ("a=foo.b", 'Error parsing `filter` params: ["foo", "b"]'),
        ("a=eq", 'Error parsing `filter` params: ["eq"]'),
        ("a=eq.1,,b=eq.2", "must not contain empty segments"),
        ("a=in.1,2", "`in` filter value must be wrapped by parentheses"),
    ],
)
def test_filters_that_cannot_be_read_are_refused(text: str, said: str) -> None:
    with pytest.raises(FilterError) as refusal:
        parse_filters(text)
    assert said in str(refusal.value)
