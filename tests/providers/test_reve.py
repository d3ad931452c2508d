"""Reve's adapter against the vendor's documented answers and against a socket that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import json

import httpx
import pytest
from pydantic import SecretStr

from domain import Capability, ImageAnswer, ImageRequest, TaskId
from errors import (
    AccountError,
    BadResponseError,
    ChargeUnknownError,
    ContentRefusedError,
    NotReachedError,
    ProviderError,
    RateLimitError,
    RequestRejectedError,
    RetryableError,
)
from providers.reve import MAX_PICTURE_BYTES, Reve
from tests.contracts import Exchange, exchange, load
from tests.providers.fakes import KEY, Ledger, StoredPicture, Vendor, image_request, png
from tests.providers.raw_server import RawRequest, always, http_answer, raw_server
from transport import build_http_client

EDIT = "/v1/image/edit"

#: What each documented answer to an edit amounts to.
OUTCOMES: dict[str, type[ProviderError] | None] = {
    "edit_ok": None,
    "edit_fast_ok": None,
    "edit_with_background_removed": None,
    "credits_as_text": None,
    "credits_missing": None,
    "bad_key": AccountError,
    "forbidden": AccountError,
    "out_of_credit": AccountError,
    "empty_body": BadResponseError,
    "empty_image": BadResponseError,
    "image_is_html": BadResponseError,
    "image_is_not_base64": BadResponseError,
    "missing_image": BadResponseError,
    "missing_parameter": RequestRejectedError,
    "not_found": RequestRejectedError,
    "prompt_too_long": RequestRejectedError,
    "unreadable_picture": RequestRejectedError,
    "policy_as_error": ContentRefusedError,
    "refused_as_bool": ContentRefusedError,
    "refused_as_text": ContentRefusedError,
    "refused_without_image": ContentRefusedError,
    "rate_limit_absurd_wait": RateLimitError,
    "rate_limit_with_date": RateLimitError,
    "rate_limit_with_seconds": RateLimitError,
    "rate_limit_without_wait": RateLimitError,
    "gateway_timeout": ChargeUnknownError,
    "server_error": ChargeUnknownError,
    "server_error_in_error_key": ChargeUnknownError,
    "server_error_in_html": ChargeUnknownError,
    "server_unavailable": ChargeUnknownError,
}
EDITS = [page for page in load("reve") if page.path == EDIT and not page.name.startswith("raw_")]


def reve(http: httpx.AsyncClient, base_url: str = "https://api.reve.com", **options: float | str) -> Reve:
    return Reve(http, base_url=base_url, api_key=SecretStr(KEY), **options)  # type: ignore[arg-type]


async def outcome(answer: httpx.Response, request: ImageRequest | None = None) -> ImageAnswer:
    async with Vendor(answers={EDIT: [answer]}).client() as http:
        return await reve(http).generate(request or image_request(), Ledger())


def good_answer(picture: bytes, **fields: object) -> httpx.Response:
    return httpx.Response(200, json={"image": base64.b64encode(picture).decode(), "credits_used": 30, **fields})


def test_every_documented_answer_has_an_outcome_here() -> None:
    assert {page.name for page in EDITS} == set(OUTCOMES)


@pytest.mark.parametrize("page", EDITS, ids=lambda page: page.name)
async def test_each_documented_answer_has_its_outcome(page: Exchange) -> None:
    expected = OUTCOMES[page.name]
    if expected is None:
        answer = await outcome(page.answer())
        assert (answer.picture.width, answer.picture.height) == (96, 64)
    else:
        with pytest.raises(expected) as caught:
            await outcome(page.answer())
        assert type(caught.value) is expected
        assert caught.value.provider == "reve"
        assert KEY not in str(caught.value)
        assert len(str(caught.value)) <= 400


@pytest.mark.parametrize("name", ["edit_ok", "edit_with_background_removed", "edit_fast_ok"])
async def test_the_request_is_as_documented(name: str) -> None:
    page = exchange("reve", name)
    vendor = Vendor(answers={EDIT: [page.answer()]})
    capability = Capability.REMOVE_BACKGROUND if "background" in name else Capability.RESTORE
    async with vendor.client() as http:
        model = reve(http, version="latest-fast" if "fast" in name else "latest")
        await model.generate(image_request(capability), Ledger())
    assert page.request_differences(vendor.requests[0]) == []


async def test_the_picture_goes_out_as_plain_base64_of_the_file() -> None:
    source = StoredPicture(content=png(400, 300) + bytes(200_000))  # several pieces, the last one uneven
    async with raw_server(always(http_answer(500))) as server, build_http_client() as http:
        with pytest.raises(ChargeUnknownError):
            await reve(http, f"http://127.0.0.1:{server.port}").generate(image_request(source=source), Ledger())
        sent = server.requests[0]
    assert base64.b64decode(json.loads(sent.body)["reference_image"], validate=True) == source.content
    assert sent.headers["content-length"] == str(len(sent.body))
    assert sent.headers["authorization"] == f"Bearer {KEY}"


async def test_the_ledger_is_told_just_before_the_request_leaves() -> None:
    vendor = Vendor(answers={EDIT: [good_answer(png(alpha=0))]})
    ledger = Ledger(requests_so_far=lambda: len(vendor.requests))
    async with vendor.client() as http:
        await reve(http).generate(image_request(), ledger)
    assert ledger.notes == [("sending", 0)]
    assert len(vendor.requests) == 1


async def test_nothing_is_sent_when_the_ledger_forbids_it() -> None:
    class Closed(Ledger):
        async def sending(self) -> None:
            raise PermissionError

    vendor = Vendor(answers={EDIT: [good_answer(png(alpha=0))]})
    async with vendor.client() as http:
        with pytest.raises(PermissionError):
            await reve(http).generate(image_request(), Closed())
    assert vendor.requests == []


@pytest.mark.parametrize(
    ("credits_used", "micros"),
    [(30, 40_000), ("30", 40_000), (32.5, 43_333), (0, 0), (-1, None), ("many", None), (None, None), (True, None)],
)
async def test_the_reported_credits_are_the_cost(credits_used: object, micros: int | None) -> None:
    answer = await outcome(good_answer(png(alpha=0), credits_used=credits_used))
    assert answer.cost_micros == micros


async def test_the_header_tells_the_cost_where_the_body_does_not() -> None:
    answer = httpx.Response(
        200,
        json={"image": base64.b64encode(png(alpha=0)).decode()},
        headers={"X-Reve-Credits-Used": "15", "X-Reve-Request-Id": "rsid-1"},
    )
    bought = await outcome(answer)
    assert (bought.cost_micros, bought.request_id) == (20_000, "rsid-1")


async def test_a_refusal_and_an_unusable_answer_say_what_they_cost() -> None:
    refused = httpx.Response(200, json={"image": "", "content_violation": "yes", "credits_used": 30})
    with pytest.raises(ContentRefusedError) as caught:
        await outcome(refused)
    assert caught.value.cost_micros == 40_000
    with pytest.raises(BadResponseError) as unusable:
        await outcome(good_answer(b"<html>", request_id="rsid-2"))
    assert (unusable.value.cost_micros, unusable.value.request_id) == (40_000, "rsid-2")


@pytest.mark.parametrize(
    ("version", "capability", "width", "micros"),
    [
        ("latest", Capability.RESTORE, 1000, 40_000),
        ("latest-fast", Capability.RESTORE, 1000, 6_667),
        ("latest", Capability.REMOVE_BACKGROUND, 1000, 42_667),  # two credits more at least
        ("latest", Capability.REMOVE_BACKGROUND, 4000, 48_000),  # 4 MP: six credits
    ],
)
async def test_the_estimate_follows_the_price_list(
    version: str, capability: Capability, width: int, micros: int
) -> None:
    async with httpx.AsyncClient() as http:
        model = reve(http, version=version)
        assert model.price_micros(image_request(capability, width=width, height=1000)) == micros


@pytest.mark.parametrize("picture", [png(), png(alpha=255)])
async def test_a_removed_background_must_be_gone(picture: bytes) -> None:
    """Without one transparent pixel it is not a cut-out, and four scenes would be bought on top of it."""
    with pytest.raises(BadResponseError, match="No background was removed"):
        await outcome(good_answer(picture))
    assert (await outcome(good_answer(picture), image_request(Capability.RESTORE))).picture.content == picture


@pytest.mark.parametrize("picture", [png(16, 16, alpha=0), png(alpha=0)[:-30], b"", b"GIF89a"])
async def test_a_picture_that_is_implausible_is_refused(picture: bytes) -> None:
    with pytest.raises(BadResponseError):
        await outcome(good_answer(picture))


@pytest.mark.parametrize("body", ["[]", "null", "42", '"text"', "{", "[" * 100_000, '{"image": 1e999}', "\ud800"])
async def test_json_of_any_other_kind_is_a_bad_response(body: str) -> None:
    with pytest.raises(BadResponseError):
        await outcome(httpx.Response(200, content=body.encode(errors="surrogatepass")))


async def test_words_in_an_error_are_redacted() -> None:
    said = f"No {KEY} at https://api.reve.com/x?token=1 for me@example.com {'A' * 80}\x00\ud800\n" + "blah " * 200
    with pytest.raises(RequestRejectedError) as caught:
        await outcome(httpx.Response(400, content=json.dumps({"error_code": "BAD", "message": said}).encode()))
    message = str(caught.value)
    assert message.startswith("reve answered 400: BAD No [key] at [link] for [address] [code] blah")
    assert len(message) < 350
    assert message.isprintable()


@pytest.mark.parametrize(
    "request_",
    [
        image_request(prompt="x" * 2561),
        image_request(prompt="  "),
        image_request(from_words=True),
        image_request(width=8192, height=8192),
        image_request(source=StoredPicture(content=bytes(MAX_PICTURE_BYTES + 1))),
    ],
)
async def test_what_reve_would_refuse_is_refused_before_it_is_sent(request_: ImageRequest) -> None:
    vendor = Vendor(answers={EDIT: [good_answer(png())]})
    ledger = Ledger()
    async with vendor.client() as http:
        with pytest.raises(RequestRejectedError):
            await reve(http).generate(request_, ledger)
    assert vendor.requests == []
    assert ledger.notes == []


async def test_a_source_that_cannot_be_read_in_time_is_retried() -> None:
    class Slow(StoredPicture):
        async def read(self) -> bytes:
            await asyncio.sleep(30)
            return b""

    async with httpx.AsyncClient() as http:
        with pytest.raises(RetryableError, match="nothing was sent"):
            await reve(http, deadline_s=10.1).generate(image_request(source=Slow()), Ledger())


async def test_a_refused_connection_is_not_reached() -> None:
    async with raw_server(always(b"")) as server:
        port = server.port
    async with build_http_client() as http:
        with pytest.raises(NotReachedError):
            await reve(http, f"http://127.0.0.1:{port}").generate(image_request(), Ledger())


async def test_an_answer_that_never_comes_leaves_the_charge_unknown() -> None:
    async def hang(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async with raw_server(hang) as server, build_http_client() as http:
        with pytest.raises(ChargeUnknownError, match="in time"):
            await reve(http, f"http://127.0.0.1:{server.port}", deadline_s=10.3).generate(image_request(), Ledger())
        assert len(server.requests) == 1


async def test_a_model_may_think_in_silence_for_longer_than_the_clients_read_timeout() -> None:
    async def think(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.6)
        writer.write(http_answer(200, good_answer(png(alpha=0)).content))
        await writer.drain()

    impatient = httpx.Timeout(connect=2, read=0.1, write=0.1, pool=3)
    async with raw_server(think) as server, build_http_client(timeout=impatient) as http:
        answer = await reve(http, f"http://127.0.0.1:{server.port}").generate(image_request(), Ledger())
    assert answer.picture.has_alpha


async def test_a_cut_answer_leaves_the_charge_unknown() -> None:
    body = good_answer(png(alpha=0)).content

    async def cut(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(200, body[:-20], length=len(body)))
        await writer.drain()

    async with raw_server(cut) as server, build_http_client() as http:
        with pytest.raises(ChargeUnknownError, match="in full"):
            await reve(http, f"http://127.0.0.1:{server.port}").generate(image_request(), Ledger())


async def test_the_free_balance_is_a_probe_of_the_key() -> None:
    balances = "/api/misc/balance"
    ok, refused = exchange("reve", "balance_ok"), exchange("reve", "balance_bad_key")
    vendor = Vendor(answers={balances: [ok.answer({"int": 4970}), refused.answer()]})
    async with vendor.client() as http:
        assert await reve(http).balance() == 4970
        with pytest.raises(AccountError):
            await reve(http).balance()
    assert ok.request_differences(vendor.requests[0]) == []


async def test_a_lost_answer_cannot_be_resumed() -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(ChargeUnknownError):
            await reve(http).resume(TaskId("none"))
