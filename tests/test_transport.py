"""The HTTP client on real sockets: above all, whether it is ever wrong about a request having been sent."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport
from supabase import AsyncClientOptions, acreate_client

from tests.providers.certificates import make_certificate
from tests.providers.raw_server import RawRequest, always, http_answer, raw_server, reset
from tests.stack import RunningStack
from transport import build_http_client, never_sent

QUICK = httpx.Timeout(connect=2.0, read=0.3, write=2.0, pool=3.0)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with build_http_client(timeout=QUICK) as client:
        yield client


async def drop(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    """Read the request, then hang up."""


async def drop_with_reset(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def hang(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def drop_within_headers(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await writer.drain()


async def talk_nonsense(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 smtp.example.com ESMTP\r\n\r\n")
    await writer.drain()


async def drop_within_body(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(http_answer(body=b"half", length=8))
    await writer.drain()


async def break_the_chunks(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a length\r\n")
    await writer.drain()


def a_free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


async def test_a_refused_connection_was_never_sent(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        await http.post(f"http://127.0.0.1:{a_free_port()}/", json={})
    assert never_sent(caught.value)


async def test_an_unknown_host_was_never_sent(http: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        await http.post("http://no-such-host.invalid/", json={})
    assert never_sent(caught.value)


async def test_a_handshake_that_never_ends_was_never_sent() -> None:
    """Waiting for TLS counts as connecting: the request has not left."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with build_http_client(timeout=httpx.Timeout(5.0, connect=0.2)) as http:
            with pytest.raises(httpx.ConnectTimeout) as caught:
                await http.post(f"https://127.0.0.1:{silent.getsockname()[1]}/", json={})
    assert never_sent(caught.value)


async def test_an_untrusted_certificate_was_never_sent(http: httpx.AsyncClient, tmp_path: Path) -> None:
    tls, _ = make_certificate(tmp_path, "localhost")
    async with raw_server(always(http_answer()), tls=tls) as server:
        with pytest.raises(httpx.ConnectError) as caught:
            await http.post(f"https://localhost:{server.port}/", json={})
        assert never_sent(caught.value)
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert server.requests == []


async def test_waiting_in_vain_for_a_free_connection_was_never_sent() -> None:
    arrived = asyncio.Event()

    async def hang(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.sleep(30)

    async with (
        raw_server(hang) as server,
        build_http_client(max_connections=1, timeout=httpx.Timeout(5.0, pool=0.2)) as http,
    ):
        url = f"http://127.0.0.1:{server.port}/"
        first = asyncio.create_task(http.post(url, json={}))
        await arrived.wait()
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await http.post(url, json={})
        first.cancel()
        assert never_sent(caught.value)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (drop, httpx.RemoteProtocolError),
        (drop_with_reset, httpx.ReadError),
        (hang, httpx.ReadTimeout),
        (drop_within_headers, httpx.RemoteProtocolError),
        (talk_nonsense, httpx.RemoteProtocolError),
        (drop_within_body, httpx.RemoteProtocolError),
        (break_the_chunks, httpx.TransportError),
    ],
)
async def test_whatever_happens_once_the_request_is_out_may_have_been_sent(
    http: httpx.AsyncClient, script: object, error: type[httpx.TransportError]
) -> None:
    async with raw_server(script) as server:  # type: ignore[arg-type]
        with pytest.raises(error) as caught:
            await http.post(f"http://127.0.0.1:{server.port}/", json={"picture": "x"})
        assert not never_sent(caught.value)
        assert len(server.requests) == 1


async def test_the_bare_aiohttp_transport_calls_a_lost_connection_a_connect_timeout() -> None:
    """The trap that `never_sent` is there for; when this fails, httpx-aiohttp has mended it."""
    async with raw_server(drop) as server, httpx.AsyncClient(transport=AiohttpTransport()) as http:
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await http.post(f"http://127.0.0.1:{server.port}/", json={})
        assert len(server.requests) == 1
        assert not never_sent(caught.value)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("plain"), httpx.ConnectTimeout("plain"), httpx.PoolTimeout("plain")]
)
def test_httpx_own_connect_errors_were_never_sent(error: httpx.TransportError) -> None:
    assert never_sent(error)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ReadTimeout("plain"),
        httpx.WriteError("plain"),
        TimeoutError(),
        ConnectionResetError(),
        ssl.SSLError(),
        RuntimeError("Session is closed"),
        ValueError(),
    ],
)
def test_an_error_that_is_not_known_may_have_been_sent(error: Exception) -> None:
    assert not never_sent(error)


async def test_a_post_is_not_repeated_when_a_kept_connection_drops(http: httpx.AsyncClient) -> None:
    """aiohttp repeats idempotent requests by itself; a purchase must not be among them."""

    async def answer_once(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        if number == 0:
            writer.write(http_answer(body=b"{}"))
            await writer.drain()
            return True
        return False

    async with raw_server(answer_once) as server:
        url = f"http://127.0.0.1:{server.port}/"
        await http.post(url, json={"order": 1})
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await http.post(url, json={"order": 2})
        assert server.connections == 1
        assert [request.body for request in server.requests] == [b'{"order":1}', b'{"order":2}']
        assert not never_sent(caught.value)


async def test_a_slow_drip_does_not_outlast_a_deadline(http: httpx.AsyncClient) -> None:
    """Each byte resets the read timeout, so only `asyncio.timeout` around the call ends it; and it does end it."""

    async def drip(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(length=10_000))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with raw_server(drip) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await http.post(f"http://127.0.0.1:{server.port}/", json={})


async def test_a_redirect_is_not_followed(http: httpx.AsyncClient) -> None:
    async with raw_server(always(http_answer(307, headers={"Location": "/elsewhere"}))) as server:
        answer = await http.post(f"http://127.0.0.1:{server.port}/", json={})
        assert answer.status_code == 307
        assert len(server.requests) == 1


async def test_a_cookie_never_rides_on_another_request(http: httpx.AsyncClient) -> None:
    async with raw_server(always(http_answer(headers={"Set-Cookie": "session=someone; Path=/"}))) as server:
        for _ in range(2):
            await http.get(f"http://localhost:{server.port}/")
        assert "cookie" not in server.requests[1].headers


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{a_free_port()}")
    async with raw_server(always(http_answer(body=b"direct"))) as server, build_http_client() as http:
        assert (await http.get(f"http://localhost:{server.port}/")).content == b"direct"


async def test_closing_leaves_nothing_open() -> None:
    async with raw_server(always(http_answer())) as server:
        http = build_http_client()
        await asyncio.gather(*(http.get(f"http://127.0.0.1:{server.port}/") for _ in range(5)))
        await http.aclose()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del http
            gc.collect()
        assert [str(warning.message) for warning in caught] == []


async def test_the_supabase_client_works_on_it(stack: RunningStack) -> None:
    """Rows, a multipart upload of more than a megabyte, a streamed download, and no warning on the way."""
    content = bytes(range(256)) * 12_000
    async with build_http_client() as http:
        supabase = await acreate_client(stack.url, stack.secret_key, options=AsyncClientOptions(httpx_client=http))
        await supabase.storage.create_bucket("transport-test")
        bucket = supabase.storage.from_("transport-test")
        await bucket.upload("a/large.bin", content, {"content-type": "application/octet-stream"})
        assert await bucket.download("a/large.bin") == content

        signed = await bucket.create_signed_url("a/large.bin", 60)
        received = b""
        async with http.stream("GET", str(signed["signedURL"])) as answer:
            async for chunk in answer.aiter_bytes():
                received += chunk
        assert received == content
        await supabase.realtime.close()
