"""The sandbox's own requests: to this machine and its private network only, so that no picture leaves by accident."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import httpx
from httpx_aiohttp import HttpxAiohttpClient

_NEAR = [
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
]
MAX_INPUT_BYTES = 40_000_000
TIMEOUT_S = 15.0  # NanoBanana gives a callback 15 s; fetching an input is given the same


class FetchError(Exception):
    """An input picture could not be had. The message holds no URL: signed links are secrets."""


class LoopbackClient:
    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        self._client = HttpxAiohttpClient(timeout=TIMEOUT_S, limits=limits, trust_env=False)

    async def fetch(self, url: str) -> bytes:
        """The body behind an input URL.

        Raises:
            FetchError
        """
        if not await is_near(url):
            raise FetchError("the sandbox fetches pictures from this machine only")
        content = bytearray()
        try:
            async with self._client.stream("GET", url) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise FetchError(f"the picture's address answered {answer.status_code}")
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > MAX_INPUT_BYTES:
                        raise FetchError("the picture is too large")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FetchError(f"the picture cannot be fetched ({type(error).__name__})") from error
        return bytes(content)

    async def post(self, url: str, body: dict[str, Any]) -> bool:
        """Send a callback; True when it was taken with a 2xx."""
        if not await is_near(url):
            return False
        try:
            answer = await self._client.post(url, json=body)
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return answer.is_success

    async def close(self) -> None:
        await self._client.aclose()


async def is_near(url: str) -> bool:
    """True when every address of the host is loopback or private."""
    try:
        parts = httpx.URL(url)
        if parts.scheme not in ("http", "https") or not parts.host:
            return False
        found = await asyncio.get_running_loop().getaddrinfo(parts.host, parts.port or 80)
    except (httpx.InvalidURL, OSError):
        return False
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    return all(any(address in network for network in _NEAR) for address in addresses)
