"""Which network addresses may be dialled, and a resolver that lets no other through.

The resolver sits inside the connector: it looks a name up once, checks every address, and the connector dials exactly
those. A second look-up, which a hostile name server could answer differently, never happens. TLS still checks the
certificate against the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp.abc import AbstractResolver, ResolveResult

from errors import UnsafeUrlError

#: Host and port to the addresses and ports to dial. Raises OSError when there are none.
Lookup = Callable[[str, int], Awaitable[list[tuple[str, int]]]]

# Addresses that carry an IPv4 address inside, or are given out for examples, though Python calls them global.
_REFUSED_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "192.88.99.0/24",  # 6to4 relays (RFC 7526)
        "2001::/23",  # protocol assignments, among them Teredo (RFC 4380)
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 (RFC 3056)
        "3fff::/20",  # documentation (RFC 9637)
    )
]
_GLOBAL_UNICAST_V6 = ipaddress.ip_network("2000::/3")  # without IPv4-mapped, NAT64, local and multicast addresses


def is_public(address: str) -> bool:
    """Whether an address belongs to the public internet: not private, loopback, link-local, shared, reserved,
    multicast, and not IPv6 with an IPv4 address inside."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST_V6:
        return False
    if any(ip in network for network in _REFUSED_NETWORKS):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_private)


async def look_up(host: str, port: int) -> list[tuple[str, int]]:
    """The system's answer."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(address[0]), int(address[1])) for *_, address in found]


@dataclass(kw_only=True)
class GuardedResolver(AbstractResolver):
    """Resolves to public addresses only, but for one exempt host and port."""

    lookup: Lookup
    exempt: tuple[str, int] | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """
        Raises:
            UnsafeUrlError: At least one address is not public.
        """
        addresses = await self.lookup(host, port)
        if (host, port) != self.exempt and not all(is_public(address) for address, _ in addresses):
            raise UnsafeUrlError("The link's host resolves to an address that is not public.")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=address_port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address, address_port in addresses
        ]

    async def close(self) -> None:
        pass
