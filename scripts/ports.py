"""Ports on the loopback interface, chosen before a service listens on them."""

from __future__ import annotations

import atexit
import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"

#: Below the range from which systems take the ports of outgoing connections.
RANDOM_PORTS = range(20_000, 30_000)


def take(candidates: Iterable[int]) -> int:
    """The first TCP port that nobody listens on and no other Vitrine has taken.

    Between our choice and the moment when the service listens, a port looks free. So that several Vitrines that start
    at once do not choose the same one, each holds the UDP port of the same number until its process ends.

    Raises:
        OSError: There is none.
    """
    for port in candidates:
        if _is_free(port) and (token := _bound(port, socket.SOCK_DGRAM)):
            atexit.register(token.close)
            return port
    raise OSError("All ports that were tried are taken.")


def take_any() -> int:
    return take(random.sample(RANDOM_PORTS, k=100))


def _is_free(port: int) -> bool:
    listener = _bound(port, socket.SOCK_STREAM)
    if listener is None:
        return False
    listener.close()
    return True


def _bound(port: int, kind: socket.SocketKind) -> socket.socket | None:
    bound = socket.socket(type=kind)
    if kind is socket.SOCK_STREAM:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore connections that linger closed
    try:
        bound.bind((LOOPBACK, port))
    except OSError:
        bound.close()
        return None
    return bound
