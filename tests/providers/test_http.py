"""From status and network errors to typed errors, for requests that cost money and for those that do not."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from errors import (
    AccountError,
    ChargeUnknownError,
    ConfigError,
    NotReachedError,
    ProviderError,
    RateLimitError,
    RequestRejectedError,
    RetryableError,
)
from providers._http import (
    LONGEST_RETRY_AFTER_S,
    ProviderApi,
    Reply,
    json_object_in,
    number_in,
    retry_after_in,
    text_in,
)
from providers._redact import redacted
from tests.providers.fakes import KEY
from tests.providers.raw_server import RawRequest, Script, always, http_answer, raw_server, reset
from transport import build_http_client

FEW_BYTES = 2_000


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with build_http_client() as client:
        yield client


def api(http: httpx.AsyncClient, port: int) -> ProviderApi:
    return ProviderApi(http, provider="reve", base_url=f"http://127.0.0.1:{port}/", api_key=SecretStr(KEY))


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def buy(http: httpx.AsyncClient, script: Script, *, seconds: float = 5.0) -> Reply:
    async with raw_server(script) as server:
        return await api(http, server.port).buy(
            "/buy", content=b"{}", length=2, ends_at=soon(seconds), max_bytes=FEW_BYTES
        )


async def ask(http: httpx.AsyncClient, script: Script, *, seconds: float = 5.0) -> Reply:
    async with raw_server(script) as server:
        return await api(http, server.port).ask("/ask", params={}, ends_at=soon(seconds), max_bytes=FEW_BYTES)


async def hang(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def reset_at_once(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def hang_up(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    pass


async def cut(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(http_answer(body=b'{"image": "', length=500))
    await writer.drain()


async def drip(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(http_answer(length=500))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


too_large = always(http_answer(body=bytes(FEW_BYTES + 1)))
too_large_once_inflated = always(
    http_answer(body=gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})
)
not_gzip = always(http_answer(body=b"not gzip", headers={"Content-Encoding": "gzip"}))
endless_headers = always(b"HTTP/1.1 200 OK\r\n" + b"X-More: and more\r\n" * 100_000)


@pytest.mark.parametrize(
    "script",
    [hang, drip, reset_at_once, hang_up, cut, too_large, too_large_once_inflated, not_gzip, endless_headers],
    ids=lambda script: getattr(script, "__name__", "answer"),
)
async def test_without_a_verdict_a_purchase_is_unknown_and_a_question_is_asked_again(
    http: httpx.AsyncClient, script: Script
) -> None:
    with pytest.raises(ChargeUnknownError) as purchase:
        await buy(http, script, seconds=0.4)
    with pytest.raises(RetryableError) as question:
        await ask(http, script, seconds=0.4)
    assert type(question.value) is RetryableError
    assert purchase.value.provider == question.value.provider == "reve"


async def test_a_refused_connection_reached_nobody(http: httpx.AsyncClient) -> None:
    async with raw_server(hang_up) as server:
        port = server.port
    for call in (
        api(http, port).buy("/buy", content=b"{}", length=2, ends_at=soon(), max_bytes=FEW_BYTES),
        api(http, port).ask("/ask", params={}, ends_at=soon()),
    ):
        with pytest.raises(NotReachedError):
            await call


async def test_after_its_deadline_nothing_is_sent(http: httpx.AsyncClient) -> None:
    async with raw_server(always(http_answer())) as server:
        with pytest.raises(NotReachedError, match="Too late"):
            await api(http, server.port).buy("/buy", content=b"{}", length=2, ends_at=soon(-1), max_bytes=FEW_BYTES)
        assert server.requests == []


async def test_an_error_that_nobody_foresaw_leaves_the_charge_unknown() -> None:
    def explode(request: httpx.Request) -> httpx.Response:
        raise RuntimeError("Session is closed")

    async with httpx.AsyncClient(transport=httpx.MockTransport(explode)) as http:
        with pytest.raises(ChargeUnknownError):
            await api(http, 1).buy("/buy", content=b"{}", length=2, ends_at=soon(), max_bytes=FEW_BYTES)


async def test_being_cancelled_is_not_an_answer(http: httpx.AsyncClient) -> None:
    """Cancellation passes through; the ledger's call stays in `sent`."""
    purchase = asyncio.create_task(buy(http, hang))
    await asyncio.sleep(0.2)
    purchase.cancel()
    with pytest.raises(asyncio.CancelledError):
        await purchase


async def test_the_status_is_the_verdict_though_its_words_are_cut(http: httpx.AsyncClient) -> None:
    async def cut_refusal(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(429, b'{"mess', {"Retry-After": "7"}, length=900))
        await writer.drain()

    reply = await buy(http, cut_refusal)
    assert reply.status == 429
    assert retry_after_in(reply.headers) == 7


async def test_the_words_of_an_error_are_not_waited_for_long(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers._http.ERROR_BODY_TIMEOUT_S", 0.2)

    async def silent_refusal(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(402, length=900))
        await writer.drain()
        await asyncio.Event().wait()

    assert (await buy(http, silent_refusal)).status == 402


async def test_an_answer_before_the_whole_body_is_out_is_heard(http: httpx.AsyncClient) -> None:
    """A server may refuse by the headers and never read the picture; nothing hangs on sending the rest."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(400):
            yield bytes(65_536)

    async with raw_server(always(http_answer(413, b"{}")), reads_bodies=False) as server:
        reply = await api(http, server.port).buy(
            "/buy", content=pieces(), length=400 * 65_536, ends_at=soon(), max_bytes=FEW_BYTES
        )
    assert reply.status == 413


@pytest.mark.parametrize(
    ("status", "paid", "free"),
    [
        (300, ChargeUnknownError, RetryableError),
        (301, RequestRejectedError, RequestRejectedError),
        (303, ChargeUnknownError, RetryableError),  # may be the way on after the work is done
        (307, RequestRejectedError, RequestRejectedError),
        (400, RequestRejectedError, RequestRejectedError),
        (401, AccountError, AccountError),
        (402, AccountError, AccountError),
        (403, AccountError, AccountError),
        (404, RequestRejectedError, RequestRejectedError),
        (408, ChargeUnknownError, RetryableError),  # gateways say it for a slow upstream too
        (413, RequestRejectedError, RequestRejectedError),
        (422, RequestRejectedError, RequestRejectedError),
        (429, RateLimitError, RateLimitError),
        (500, ChargeUnknownError, RetryableError),
        (502, ChargeUnknownError, RetryableError),
        (503, ChargeUnknownError, RetryableError),
        (504, ChargeUnknownError, RetryableError),
        (599, ChargeUnknownError, RetryableError),
        (999, ChargeUnknownError, RetryableError),
    ],
)
async def test_each_status_has_its_error(
    http: httpx.AsyncClient, status: int, paid: type[ProviderError], free: type[ProviderError]
) -> None:
    assert type(api(http, 1).error(status, paid=True)) is paid
    assert type(api(http, 1).error(status, paid=False)) is free


@pytest.mark.parametrize("key", ["", "schlüssel", "two\nlines"])
async def test_a_key_that_cannot_be_sent_stops_the_start(http: httpx.AsyncClient, key: str) -> None:
    with pytest.raises(ConfigError, match="The API key of reve is empty or has characters that cannot be sent"):
        ProviderApi(http, provider="reve", base_url="https://api.reve.com", api_key=SecretStr(key))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("0", 0.0),
        ("-3", 0.0),
        ("999999999", LONGEST_RETRY_AFTER_S),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER_S),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_in({"retry-after": value}) == seconds


def test_retry_after_a_date_is_the_time_until_then() -> None:
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    wait = retry_after_in({"retry-after": value})
    assert wait is not None
    assert 80 < wait <= 90


def test_no_retry_after_is_no_wait() -> None:
    assert retry_after_in({}) is None


@given(st.text())
def test_whatever_retry_after_says_the_wait_is_bounded(value: str) -> None:
    wait = retry_after_in({"retry-after": value})
    assert wait is None or 0 <= wait <= LONGEST_RETRY_AFTER_S


@given(st.text(max_size=3000))
def test_redacted_words_are_one_short_printable_line_without_the_key(words: str) -> None:
    clean = redacted(words + KEY + words, secret=KEY)
    assert len(clean) <= 300
    assert clean.isprintable()
    assert KEY not in clean


def test_an_html_page_is_not_quoted() -> None:
    assert redacted("\n<!DOCTYPE html><html>secrets</html>", secret=KEY) == "(an HTML page)"


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists))
def test_any_value_reads_as_a_number_a_text_or_nothing(value: object) -> None:
    number, text = number_in(value), text_in(value)
    assert number is None or abs(number) < float("inf")
    assert text is None or (0 < len(text) <= 200 and text.isprintable())


@given(st.binary())
def test_any_bytes_read_as_an_object_or_nothing(body: bytes) -> None:
    assert json_object_in(body) is None or isinstance(json_object_in(body), dict)
