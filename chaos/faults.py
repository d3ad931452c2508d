"""The fault alphabet: what can happen to one request on its way, whatever it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from chaos.wire import Message

RETRY_AFTER_S = 1
HUGE_BYTES = 80_000_000  # more than any answer that the worker takes
DRIP_PAUSE_S = 0.2  # between two bytes
HANG_S = 90.0  # longer than the worker waits
REFUSED_FOR_S = 0.5

_RUBBISH = b"<!doctype html><title>Welcome</title><p>\x00\xff\xfe{[" * 40
_HUGE_PIECE = b"\x00" * 1_000_000


class Moment(StrEnum):
    """When a worker is killed: where its request is by then."""

    BEFORE = "before it is forwarded"
    UNANSWERED = "forwarded, not answered"
    ANSWERED = "answered"


class Fault(StrEnum):
    # Nothing reaches the server.
    REFUSED = "refused"  # cut off, and new connections are refused for a while
    RESET = "reset before it is forwarded"
    UNAVAILABLE = "503 with Retry-After"
    RATE_LIMITED = "429 with Retry-After"
    ERROR = "500"
    # The server has done what was asked for.
    LOST = "answer withheld, then reset"
    ERROR_AFTER = "502 after the work"
    CUT = "reset in mid-body"
    TRUNCATED = "half the body, closed cleanly"
    HANG = "hang"
    DRIP = "slow drip"
    RUBBISH = "rubbish with 200"
    EMPTY = "empty 200"
    HUGE = "huge body"
    REDIRECT = "redirect inside"
    TWICE = "answer delivered twice"
    REPLAYED = "request delivered twice"


#: The server never sees the request.
NOT_FORWARDED = {Fault.REFUSED, Fault.RESET, Fault.UNAVAILABLE, Fault.RATE_LIMITED, Fault.ERROR}
#: An answer that says "done" and is none. Of a paid request it cannot be repaired: the money is gone, the step fails.
FALSE_ANSWERS = {Fault.RUBBISH, Fault.EMPTY, Fault.HUGE, Fault.REDIRECT}
#: What can happen to the first answer of a websocket.
ON_HANDSHAKES = {
    Fault.REFUSED, Fault.RESET, Fault.UNAVAILABLE, Fault.RATE_LIMITED, Fault.ERROR, Fault.LOST, Fault.HANG,
    Fault.RUBBISH, Fault.EMPTY, Fault.REDIRECT,
}  # fmt: skip


def canned_answer(fault: Fault, *, canary_url: str) -> Message | None:
    """The answer that takes the place of the server's, for the faults that have one."""
    match fault:
        case Fault.ERROR:
            return _answer("500 Internal Server Error", b'{"message": "internal error"}', "application/json")
        case Fault.ERROR_AFTER:
            return _answer("502 Bad Gateway", b"<html>bad gateway</html>", "text/html")
        case Fault.UNAVAILABLE:
            return _answer("503 Service Unavailable", b"", "text/plain", retry_after=str(RETRY_AFTER_S))
        case Fault.RATE_LIMITED:
            return _answer("429 Too Many Requests", b"slow down", "text/plain", retry_after=str(RETRY_AFTER_S))
        case Fault.RUBBISH:
            return _answer("200 OK", _RUBBISH, "application/json")
        case Fault.EMPTY:
            return _answer("200 OK", b"", "application/json")
        case Fault.REDIRECT:
            return _answer("302 Found", b"", "text/plain", location=canary_url)
        case _:
            return None


def huge_head() -> bytes:
    return _answer("200 OK", b"", "application/json").with_fields(content_length=str(HUGE_BYTES)).head


def huge_pieces() -> Iterator[bytes]:
    return (_HUGE_PIECE for _ in range(HUGE_BYTES // len(_HUGE_PIECE)))


def _answer(status: str, body: bytes, content_type: str, **fields: str) -> Message:
    bare = Message(first_line=f"HTTP/1.1 {status}", fields=(), body=body)
    return bare.with_fields(content_type=content_type, content_length=str(len(body)), **fields)
