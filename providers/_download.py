"""Fetches result pictures from links that a provider gave us, and trusts neither the link nor what lies behind it.

A link may point into our own network, redirect there, resolve there only the second time, or stream for ever. So:
https on port 443 only, to hosts on a list; every address of a host must be public, and the very addresses that were
checked are dialled; each redirect is a new link; bytes, time and pace are bounded; no key and no cookie is ever sent.
Whether the bytes are a picture is for `pictures.check_answer` to say, not for the Content-Type.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Sequence
from urllib.parse import urljoin, urlsplit

import httpx

from errors import BadResponseError, ProviderError, RetryableError, UnsafeUrlError
from providers._addresses import GuardedResolver, Lookup, look_up
from transport import build_http_client

MAX_PICTURE_BYTES = 50_000_000
MAX_REDIRECTS = 2
DEADLINE_S = 60.0
SLOWEST_BYTES_PER_S = 20_000  # a picture of 1 MB would take most of the deadline
PATIENCE_S = 10.0  # before the pace counts
_TIMEOUT = httpx.Timeout(connect=10.0, read=15.0, write=10.0, pool=20.0)
_MAX_LINK_CHARACTERS = 4096
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity"}
_REDIRECTS = {301, 302, 303, 307, 308}


class ResultDownloader:
    """Downloads of one provider. The owner closes it."""

    def __init__(
        self,
        *,
        provider: str,
        allowed_hosts: Sequence[str],
        sandbox_url: str | None = None,
        deadline_s: float = DEADLINE_S,
        max_bytes: int = MAX_PICTURE_BYTES,
        lookup: Lookup = look_up,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """
        Args:
            allowed_hosts: Names such as `tempfile.example.com`, or `*.example.com` for every name below.
            sandbox_url: One origin that may be plain http and lie in our own network: where the sandbox listens.
            lookup: How names become addresses; what it returns is checked.
            tls: What to trust; certifi's list by default.
        """
        self._provider = provider
        self._allowed_hosts = tuple(host.lower() for host in allowed_hosts)
        self._sandbox = _origin(sandbox_url) if sandbox_url else None
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes
        sandbox_host = self._sandbox[1:] if self._sandbox else None
        resolver = GuardedResolver(lookup=lookup, exempt=sandbox_host)
        self._http = build_http_client(max_connections=100, timeout=_TIMEOUT, resolver=resolver, tls=tls)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def fetch(self, link: str) -> bytes:
        """The bytes behind a link.

        Raises:
            UnsafeUrlError: The link, or one that it redirects to, must not be fetched; nothing was sent there.
            RetryableError: It did not work this time.
            BadResponseError: It will not work: gone, too large, or redirected too often.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._follow(link)
        except (httpx.HTTPError, OSError) as error:  # TimeoutError is an OSError
            raise RetryableError(
                f"The result of {self._provider} could not be downloaded ({type(error).__name__}).",
                provider=self._provider,
            ) from error

    async def _follow(self, link: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            url = self.checked(link)
            async with self._http.stream("GET", url, headers=_HEADERS) as response:
                if response.status_code not in _REDIRECTS:
                    return await self._read(response)
                link = urljoin(str(url), response.headers.get("location", ""))
        raise BadResponseError(f"The result of {self._provider} is redirected too often.", provider=self._provider)

    async def _read(self, response: httpx.Response) -> bytes:
        if response.status_code != 200:
            raise self._failure(response.status_code)
        body = bytearray()
        clock = asyncio.get_running_loop().time
        started = clock()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self._max_bytes:
                raise BadResponseError(
                    f"The result of {self._provider} is larger than {self._max_bytes // 1_000_000} MB.",
                    provider=self._provider,
                )
            elapsed = clock() - started
            if elapsed > PATIENCE_S and len(body) < elapsed * SLOWEST_BYTES_PER_S:
                raise RetryableError(f"The result of {self._provider} comes too slowly.", provider=self._provider)
        return bytes(body)

    def _failure(self, status: int) -> ProviderError:
        final = 400 <= status < 500 and status not in (408, 425, 429)
        kind = BadResponseError if final else RetryableError
        return kind(f"The result of {self._provider} is not there ({status}).", provider=self._provider)

    def checked(self, link: str) -> httpx.URL:
        """The link, put together anew from parts that were checked, so that every parser reads it alike.

        Raises:
            UnsafeUrlError: It must not be fetched. The message never holds the link, which may be signed.
        """
        if (
            len(link) > _MAX_LINK_CHARACTERS
            or not link.isascii()
            or not link.isprintable()
            or set(' \\"<>') & set(link)
        ):
            raise UnsafeUrlError("The link holds characters that no link to a picture has.")
        try:
            parts = urlsplit(link)
            origin = _origin(link)
        except ValueError as error:
            raise UnsafeUrlError("The link cannot be read.") from error
        if "@" in parts.netloc:
            raise UnsafeUrlError("The link holds a user name.")
        scheme, host, port = origin
        if origin != self._sandbox:
            if scheme != "https" or port != 443:
                raise UnsafeUrlError("The link is not https on port 443.")
            if not any(_matches(host, allowed) for allowed in self._allowed_hosts):
                raise UnsafeUrlError(f"The link's host is not one that {self._provider} keeps results on.")
        if not _HOST.fullmatch(host):
            raise UnsafeUrlError("The link's host is no name.")
        query = f"?{parts.query}" if parts.query else ""
        try:
            return httpx.URL(f"{scheme}://{host}:{port}{parts.path or '/'}{query}")
        except httpx.InvalidURL as error:
            raise UnsafeUrlError("The link cannot be read.") from error


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL, in lower case.

    Raises:
        ValueError: It has no host, or its port is no number.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    scheme = parts.scheme.lower()
    return scheme, parts.hostname.lower(), parts.port or (443 if scheme == "https" else 80)


def _matches(host: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(allowed[1:]) and len(host) > len(allowed) - 1
    return host == allowed
