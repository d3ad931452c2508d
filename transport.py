"""The one HTTP client of a process: httpx's interface on aiohttp's connections, HTTP/1.1, every wait bounded.

httpx's own pool does not scale: 18 ms of CPU a request at 200 requests in flight, against 0.3 ms here (answers of
500 ms, two cores). `httpx-aiohttp` joins the two, but its errors cannot be taken at their word: it reports a connection
that was lost *after* the request had gone out as `httpx.ConnectTimeout`, and lets some of aiohttp's own errors through.
`_Transport` sets both right, so that what was bought is known.

A connection that is kept open may be closed by the server in the very moment in which it is used again; what was sent
then looks as if its answer were lost. A request with the extension FRESH_CONNECTION never meets that.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from httpx_aiohttp import AiohttpTransport

DEFAULT_TIMEOUT = httpx.Timeout(
    connect=10.0,  # seconds, for TCP and TLS; a healthy host answers in under one
    read=30.0,  # between two pieces of an answer; callers that wait for a model set their own
    write=30.0,  # aiohttp has no such timer: callers bound the whole exchange with `asyncio.timeout`
    pool=20.0,  # for a free connection *and* for making one, so longer than `connect`
)
KEEPALIVE_S = 30.0  # below the 60 s after which common load balancers drop an idle connection

#: An httpx request extension: true for a request that must not be sent twice. It gets a connection of its own.
FRESH_CONNECTION = "fresh_connection"


def build_http_client(
    *,
    max_connections: int = 1000,
    timeout: httpx.Timeout = DEFAULT_TIMEOUT,
    resolver: AbstractResolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """A client that follows no redirects, keeps no cookies and reads no proxy settings. The caller closes it.

    Args:
        max_connections: To all hosts together, kept ones and fresh ones each; further requests wait for `timeout.pool`
            seconds.
        timeout: All four are to be set. A slow drip resets `read` each time: bound the whole call as well.
        resolver: Finds the addresses that are dialled; the system's by default.
        tls: What to trust; certifi's list by default.
    """
    context = tls or httpx.create_ssl_context(trust_env=False)

    def open_session(*, keeps_connections: bool) -> aiohttp.ClientSession:
        keeping: dict[str, Any] = {"keepalive_timeout": KEEPALIVE_S} if keeps_connections else {"force_close": True}
        connector = aiohttp.TCPConnector(
            limit=max_connections,
            **keeping,
            ssl=context,
            resolver=resolver,
            use_dns_cache=resolver is None,  # a resolver of our own checks each address that is dialled
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    return httpx.AsyncClient(
        transport=_Transport(
            kept=AiohttpTransport(verify=context, client=partial(open_session, keeps_connections=True)),
            fresh=AiohttpTransport(verify=context, client=partial(open_session, keeps_connections=False)),
        ),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
        # One client serves many users' tokens, so a cookie of one answer must never ride on another request.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


def never_sent(error: BaseException) -> bool:
    """Whether it is certain that not one byte of the request was sent, so that a paid request may be repeated.

    True only for errors of looking up, connecting and waiting for a free connection. Everything else, known or not,
    counts as sent.
    """
    if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol):
        return False
    cause = error.__cause__
    # A plain AiohttpTransport says ConnectTimeout for connections lost at any time; only the cause tells which.
    if isinstance(cause, aiohttp.ClientError):
        return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return True


class _Transport(httpx.AsyncBaseTransport):
    """Raises httpx's errors only, each saying truly how far the request got."""

    def __init__(self, *, kept: AiohttpTransport, fresh: AiohttpTransport) -> None:
        self._kept = kept
        self._fresh = fresh

    async def aclose(self) -> None:
        await self._kept.aclose()
        await self._fresh.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._fresh if request.extensions.get(FRESH_CONNECTION) else self._kept
        try:
            response = await transport.handle_async_request(request)
        except (httpx.TransportError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _truthful(error, request) from _root(error)
        response.stream = _Body(response.stream, request)
        return response


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream, request: httpx.Request) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except (httpx.TransportError, aiohttp.ClientError, OSError, ValueError) as error:
            raise _truthful(error, self._request) from _root(error)

    async def aclose(self) -> None:
        await self._stream.aclose()


def _root(error: Exception) -> BaseException:
    """aiohttp's own error, whether it came through or was already made one of httpx's."""
    return (error.__cause__ or error) if isinstance(error, httpx.TransportError) else error


def _truthful(error: Exception, request: httpx.Request) -> httpx.TransportError:
    """httpx's error for what aiohttp met. Its message names the kind alone: aiohttp's own may quote the URL."""
    cause = _root(error)
    kind = type(cause).__name__
    match cause:
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(kind, request=request)
        case aiohttp.ConnectionTimeoutError():
            return httpx.ConnectTimeout(kind, request=request)
        case TimeoutError():
            return httpx.ReadTimeout(kind, request=request)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return httpx.UnsupportedProtocol(kind, request=request)
        case aiohttp.ClientResponseError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return httpx.RemoteProtocolError(kind, request=request)
        case _:
            return httpx.ReadError(kind, request=request)
