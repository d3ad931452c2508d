"""Ports on the loopback interface."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"

#: Below the range from which systems take the ports of outgoing connections: what is free now stays free for us.
RANDOM_PORTS = range(20_000, 30_000)


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ignore connections that linger closed
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def first_free(candidates: Iterable[int]) -> int:
    """The first port that nobody listens on.

    Raises:
        OSError: All are taken.
    """
    for port in candidates:
        if is_free(port):
            return port
    raise OSError("All ports that were tried are taken.")


def random_free() -> int:
    """A free port, not likely to be picked by anyone else between now and its use."""
    return first_free(random.sample(RANDOM_PORTS, k=100))
