"""Results are fetched from the vendor's own host on the public internet, and from nowhere else."""

from __future__ import annotations

import asyncio
import gzip
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from errors import BadResponseError, RetryableError, UnsafeUrlError
from providers import _addresses
from providers._addresses import GuardedResolver, is_public
from providers._download import ResultDownloader
from tests.providers.certificates import make_certificate
from tests.providers.fakes import sandbox_downloader
from tests.providers.raw_server import RawRequest, RawServer, Script, always, http_answer, raw_server

HOST = "tempfile.aiquickdraw.com"

#: `PORT` is where a canary listens on every local address.
UNSAFE_LINKS = [
    # our own machine, spelled in every way that some parser understands
    "http://127.0.0.1:PORT/",
    "https://127.0.0.1:PORT/",
    "https://127.0.0.1/",
    "http://localhost:PORT/",
    "https://localhost/",
    "http://127.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0.0.1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://[::1]:PORT/",
    "http://[::]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://127.0.0.1.nip.io:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://127。0。0。1:PORT/",
    # other machines of ours, and the cloud's own
    "http://169.254.169.254/latest/meta-data/",
    "https://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "https://10.0.0.1/",
    "https://192.168.1.1/",
    "https://172.16.0.1/",
    "https://100.64.0.1/",
    "https://[fe80::1%25eth0]/",
    "https://kubernetes.default.svc/",
    # other schemes
    "file:///etc/passwd",
    "ftp://tempfile.aiquickdraw.com/r.png",
    "gopher://127.0.0.1:PORT/_",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "//tempfile.aiquickdraw.com/r.png",
    "/r.png",
    "",
    "https:",
    "https://",
    "https:///r.png",
    "http://tempfile.aiquickdraw.com/r.png",
    "ws://tempfile.aiquickdraw.com/r.png",
    # other ports
    "https://tempfile.aiquickdraw.com:PORT/r.png",
    "https://tempfile.aiquickdraw.com:22/r.png",
    "https://tempfile.aiquickdraw.com:0443x/r.png",
    "https://tempfile.aiquickdraw.com:99999/r.png",
    "https://tempfile.aiquickdraw.com:-1/r.png",
    # names that only look like the vendor's
    "https://evil.example/tempfile.aiquickdraw.com",
    "https://tempfile.aiquickdraw.com.evil.example/r.png",
    "https://eviltempfile.aiquickdraw.com/r.png",
    "https://sub.tempfile.aiquickdraw.com/r.png",
    "https://aiquickdraw.com/r.png",
    "https://tempfile.aiquickdraw.com./r.png",
    "https://cdn.example.org/r.png",
    "https://.cdn.example.org/r.png",
    "https://evilcdn.example.org/r.png",
    "https://127.0.0.1%2f.cdn.example.org/r.png",
    "https://127.0.0.1;.cdn.example.org/r.png",
    # what parsers disagree about
    "https://tempfile.aiquickdraw.com@127.0.0.1:PORT/",
    "https://user:password@tempfile.aiquickdraw.com/r.png",
    "https://@tempfile.aiquickdraw.com/r.png",
    "https://127.0.0.1:PORT\\@tempfile.aiquickdraw.com/",
    "https://tempfile.aiquickdraw.com\\.evil.example/",
    "https://127.0.0.1:PORT#@tempfile.aiquickdraw.com/",
    "https://127.0.0.1:PORT?@tempfile.aiquickdraw.com/",
    "https://tempfile.aiquickdraw.com%2f@127.0.0.1:PORT/",
    "https://tempfile.aiquickdraw.com%00.evil.example/",
    "https://127.0.0.1%2523@tempfile.aiquickdraw.com/",
    "https://[tempfile.aiquickdraw.com]/r.png",
    "https://[::1]tempfile.aiquickdraw.com/r.png",
    "https://tempfile.aiquickdraw.com /r.png",
    "https://tempfile.aiquickdraw.com/r.png\r\nHost: 127.0.0.1",
    "https://tempfile.aiquickdraw.com/\x00r.png",
    "\thttps://tempfile.aiquickdraw.com/r.png",
    "https://tempfile.aiquickdraw.com/" + "r" * 5_000,
]

PRIVATE_ADDRESSES = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1",
    "169.254.169.254", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "nonsense", "",
]  # fmt: skip


@pytest.fixture
async def downloader() -> AsyncIterator[ResultDownloader]:
    """As for production, without a sandbox."""
    downloader = ResultDownloader(provider="nanobanana", allowed_hosts=(HOST, "*.cdn.example.org"))
    yield downloader
    await downloader.aclose()


@asynccontextmanager
async def downloading_from(
    script: Script, folder: Path, *, addresses: list[str] | None = None, **options: float
) -> AsyncIterator[tuple[ResultDownloader, RawServer]]:
    """A downloader whose name server says that the vendor's host is a TLS server on this machine."""
    server_tls, client_tls = make_certificate(folder, HOST)
    async with raw_server(script, host="127.0.0.2", tls=server_tls) as server:
        answers = itertools.cycle(addresses or ["127.0.0.2"])

        async def lookup(host: str, port: int) -> list[tuple[str, int]]:
            assert (host, port) == (HOST, 443)
            return [(next(answers), server.port)]

        downloader = ResultDownloader(
            provider="nanobanana",
            allowed_hosts=(HOST,),
            lookup=lookup,
            tls=client_tls,
            **options,  # type: ignore[arg-type]
        )
        try:
            yield downloader, server
        finally:
            await downloader.aclose()


@pytest.fixture
def the_second_loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests have no public address: 127.0.0.2 plays one; 127.0.0.1 stays what it is."""
    monkeypatch.setattr(_addresses, "is_public", lambda address: address == "127.0.0.2")


async def test_unsafe_links_are_refused_and_nobody_is_called(downloader: ResultDownloader) -> None:
    assert len(UNSAFE_LINKS) >= 60
    async with raw_server(always(http_answer()), host="127.0.0.1") as canary:
        for link in UNSAFE_LINKS:
            with pytest.raises(UnsafeUrlError) as caught:
                await downloader.fetch(link.replace("PORT", str(canary.port)))
            assert "127" not in str(caught.value), "the message must not quote the link"
        assert canary.connections == 0


@pytest.mark.parametrize(
    ("link", "asked_for"),
    [
        (f"https://{HOST}/r/a%20b.png?sig=%2B%3D&x=1#part", f"https://{HOST}/r/a%20b.png?sig=%2B%3D&x=1"),
        (f"HTTPS://{HOST.upper()}:443/r.png", f"https://{HOST}/r.png"),
        (f"https://{HOST}", f"https://{HOST}/"),
        ("https://a.b.cdn.example.org/r.png", "https://a.b.cdn.example.org/r.png"),
    ],
)
async def test_the_vendors_links_are_accepted(downloader: ResultDownloader, link: str, asked_for: str) -> None:
    assert downloader.checked(link) == httpx.URL(asked_for)


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
async def test_a_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    async def lookup(host: str, port: int) -> list[tuple[str, int]]:
        return [("8.8.8.8", port), (address, port)]  # one bad address among good ones is enough

    assert not is_public(address)
    with pytest.raises(UnsafeUrlError, match="not public"):
        await GuardedResolver(lookup=lookup).resolve(HOST, 443)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700::6810:85e5", "2a00:1450::1"])
def test_addresses_on_the_internet_are_public(address: str) -> None:
    assert is_public(address)


async def test_a_private_address_is_refused_through_the_whole_client(tmp_path: Path) -> None:
    async with downloading_from(always(http_answer()), tmp_path) as (downloader, server):
        with pytest.raises(UnsafeUrlError, match="not public"):
            await downloader.fetch(f"https://{HOST}/r.png")
        assert server.connections == 0


@pytest.mark.usefixtures("the_second_loopback_is_public")
async def test_the_address_that_was_checked_is_the_one_that_is_dialled(tmp_path: Path) -> None:
    """DNS rebinding: the name server says 127.0.0.2 when asked first, 127.0.0.1 ever after."""
    rebinding = ["127.0.0.2"] + ["127.0.0.1"] * 50
    script = always(http_answer(body=b"picture", headers={"Connection": "close"}))
    async with downloading_from(script, tmp_path, addresses=rebinding) as (downloader, server):
        async with raw_server(always(http_answer()), host="127.0.0.1") as canary:
            assert await downloader.fetch(f"https://{HOST}/r.png") == b"picture"
            with pytest.raises(UnsafeUrlError):
                await downloader.fetch(f"https://{HOST}/r.png")
            assert canary.connections == 0
        assert server.requests[0].headers["host"] == HOST


@pytest.mark.usefixtures("the_second_loopback_is_public")
async def test_the_certificate_is_checked_against_the_name(tmp_path: Path) -> None:
    _, other_trust = make_certificate(tmp_path, "other.example")
    async with downloading_from(always(http_answer()), tmp_path) as (downloader, server):

        async def lookup(host: str, port: int) -> list[tuple[str, int]]:
            return [("127.0.0.2", server.port)]

        distrustful = ResultDownloader(provider="nanobanana", allowed_hosts=(HOST,), lookup=lookup, tls=other_trust)
        with pytest.raises(RetryableError):
            await distrustful.fetch(f"https://{HOST}/r.png")
        await distrustful.aclose()
        assert await downloader.fetch(f"https://{HOST}/r.png") == b""
        assert len(server.requests) == 1


@pytest.mark.usefixtures("the_second_loopback_is_public")
@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:PORT/",
        "https://127.0.0.1:PORT/",
        "//localhost:PORT/",
        "https://evil.example/",
        "file:///etc/passwd",
    ],
)
async def test_a_redirect_is_checked_like_a_link(tmp_path: Path, location: str) -> None:
    async with raw_server(always(http_answer()), host="127.0.0.1") as canary:
        script = always(http_answer(302, headers={"Location": location.replace("PORT", str(canary.port))}))
        async with downloading_from(script, tmp_path) as (downloader, server):
            with pytest.raises(UnsafeUrlError):
                await downloader.fetch(f"https://{HOST}/r.png")
            assert len(server.requests) == 1
        assert canary.connections == 0


@pytest.mark.usefixtures("the_second_loopback_is_public")
@pytest.mark.parametrize("redirects", [0, 1, 2, 3])
async def test_two_redirects_are_followed_and_no_more(tmp_path: Path, redirects: int) -> None:
    async def lead_on(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        more = number < redirects
        writer.write(http_answer(307, headers={"Location": f"step-{number}"}) if more else http_answer(body=b"picture"))
        await writer.drain()
        return True

    async with downloading_from(lead_on, tmp_path) as (downloader, server):
        if redirects <= 2:
            assert await downloader.fetch(f"https://{HOST}/a/r.png") == b"picture"
        else:
            with pytest.raises(BadResponseError, match="too often"):
                await downloader.fetch(f"https://{HOST}/a/r.png")
        assert [request.target for request in server.requests] == [
            "/a/r.png", "/a/step-0", "/a/step-1"
        ][: redirects + 1]  # fmt: skip


async def test_a_redirect_to_nowhere_ends() -> None:
    async with (
        raw_server(always(http_answer(302))) as server,
        sandbox_downloader(f"http://127.0.0.1:{server.port}") as it,
    ):
        with pytest.raises(BadResponseError, match="too often"):
            await it.fetch(f"http://127.0.0.1:{server.port}/r.png")


async def test_only_the_sandboxs_own_origin_may_be_local() -> None:
    async with raw_server(always(http_answer(body=b"picture"))) as sandbox, raw_server(always(http_answer())) as canary:
        async with sandbox_downloader(f"http://127.0.0.1:{sandbox.port}/") as downloader:
            assert await downloader.fetch(f"http://127.0.0.1:{sandbox.port}/results/1.png") == b"picture"
            for link in (
                f"http://127.0.0.1:{canary.port}/",
                f"https://127.0.0.1:{sandbox.port}/",
                f"http://localhost:{sandbox.port}/",
                f"http://127.0.0.2:{sandbox.port}/",
            ):
                with pytest.raises(UnsafeUrlError):
                    await downloader.fetch(link)
        assert canary.connections == 0
        assert len(sandbox.requests) == 1


async def test_a_sandbox_may_have_a_name() -> None:
    async with (
        raw_server(always(http_answer(body=b"picture"))) as server,
        sandbox_downloader(f"http://localhost:{server.port}") as downloader,
    ):
        assert await downloader.fetch(f"http://localhost:{server.port}/r.png") == b"picture"


async def fetch_from(script: Script, **options: float) -> bytes:
    async with (
        raw_server(script) as server,
        sandbox_downloader(f"http://127.0.0.1:{server.port}", **options) as downloader,
    ):
        return await downloader.fetch(f"http://127.0.0.1:{server.port}/r.png")


async def endless(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    while True:
        writer.write(bytes(65_536))
        await writer.drain()


async def drip(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(http_answer(length=1_000_000))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "script",
    [
        endless,
        always(http_answer(body=bytes(100_001))),
        always(http_answer(body=gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"})),
    ],
)
async def test_a_result_that_is_too_large_is_given_up(script: Script) -> None:
    with pytest.raises(BadResponseError, match="larger than"):
        await fetch_from(script, max_bytes=100_000)


async def test_a_drip_ends_at_the_deadline() -> None:
    with pytest.raises(RetryableError):
        await fetch_from(drip, deadline_s=0.3)


async def test_a_drip_ends_when_it_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers._download.PATIENCE_S", 0.1)
    with pytest.raises(RetryableError, match="too slowly"):
        await fetch_from(drip)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (204, RetryableError),
        (403, BadResponseError),
        (404, BadResponseError),
        (410, BadResponseError),
        (429, RetryableError),
        (500, RetryableError),
        (503, RetryableError),
    ],
)
async def test_a_status_says_whether_it_is_worth_another_try(status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        await fetch_from(always(http_answer(status)))


async def test_a_cut_result_is_worth_another_try() -> None:
    with pytest.raises(RetryableError):
        await fetch_from(always(http_answer(body=b"half", length=8)), deadline_s=1)


async def test_neither_key_nor_cookie_is_sent() -> None:
    async with raw_server(always(http_answer(headers={"Set-Cookie": "a=b"}))) as server:
        async with sandbox_downloader(f"http://127.0.0.1:{server.port}") as downloader:
            for _ in range(2):
                await downloader.fetch(f"http://127.0.0.1:{server.port}/r.png")
        assert {"authorization", "cookie", "referer"}.isdisjoint(server.requests[1].headers)
