"""NanoBanana's adapter: order, poll, fetch, against the documented answers and against sockets that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

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
    TaskFailedError,
    TaskNotCreatedError,
)
from providers.nanobanana import DOWNLOAD_ATTEMPTS, MAX_BAD_POLLS, NanoBanana, nearest_ratio
from tests.contracts import exchange, load
from tests.providers.fakes import KEY, SIGNED_LINK, Ledger, Vendor, image_request, png, sandbox_downloader
from tests.providers.raw_server import RawRequest, RawServer, Script, always, http_answer, raw_server
from transport import build_http_client

SUBMIT = "/api/v1/nanobanana/generate"
POLL = "/api/v1/nanobanana/record-info"
TASK = TaskId("task_9f31c2d4")
ORDER = image_request(Capability.GENERATE, prompt="On dark stone.")

SUBMIT_OUTCOMES: dict[str, type[ProviderError] | None] = {
    "submit_text_ok": None,
    "submit_edit_ok": None,
    "submit_bad_key": AccountError,
    "submit_bad_key_in_body": AccountError,
    "submit_out_of_credit": AccountError,
    "submit_out_of_credit_in_body": AccountError,
    "submit_bad_request": RequestRejectedError,
    "submit_bad_request_in_body": RequestRejectedError,
    "submit_rate_limit": RateLimitError,
    "submit_rate_limit_in_body": RateLimitError,
    "submit_rate_limit_with_wait": RateLimitError,
    "submit_bad_gateway": ChargeUnknownError,
    "submit_server_error": ChargeUnknownError,
    "submit_server_error_in_body": ChargeUnknownError,
    "submit_empty_body": ChargeUnknownError,
    "submit_without_task_id": ChargeUnknownError,
}
#: None: the picture. The word "running": nothing yet.
POLL_OUTCOMES: dict[str, type[ProviderError] | str | None] = {
    "poll_done": None,
    "poll_done_as_text": None,
    "poll_done_response_as_json_text": None,
    "poll_done_result_as_list": None,
    "poll_done_result_urls": None,
    "poll_message_instead_of_msg": None,
    "poll_running": "running",
    "poll_running_as_text": "running",
    "poll_running_without_response": "running",
    "poll_failed": TaskFailedError,
    "poll_not_created": TaskNotCreatedError,
    "poll_done_file_url": BadResponseError,
    "poll_done_link_local": BadResponseError,
    "poll_done_with_null_response": BadResponseError,
    "poll_done_without_result": BadResponseError,
    "poll_unknown_flag": BadResponseError,
    "poll_bad_gateway": ChargeUnknownError,
    "poll_bad_key": ChargeUnknownError,  # the task is paid: not an error after which nothing was bought
    "poll_rate_limit": ChargeUnknownError,
    "poll_unknown_task": ChargeUnknownError,
}
PAGES = [page for page in load("nanobanana") if page.path in (SUBMIT, POLL)]


@dataclass(kw_only=True)
class Host:
    """Where results lie: a real server on this machine, the adapter's one allowed origin."""

    script: Script = field(default_factory=lambda: always(http_answer(body=png(128, 128))))
    server: RawServer | None = None

    @property
    def link(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.port}/results/1.png"


@asynccontextmanager
async def nanobanana(
    vendor: Vendor | httpx.AsyncClient, *, script: Script | None = None, **options: Any
) -> AsyncIterator[tuple[NanoBanana, Host]]:
    """The adapter with quick polls."""
    host = Host(script=script) if script else Host()
    async with raw_server(host.script) as host.server:
        http = vendor.client() if isinstance(vendor, Vendor) else vendor
        async with sandbox_downloader(f"http://127.0.0.1:{host.server.port}") as downloader, http:
            yield (
                NanoBanana(
                    http,
                    base_url=options.pop("base_url", "https://api.nanobananaapi.ai"),
                    api_key=SecretStr(KEY),
                    downloader=downloader,
                    **{"first_poll_s": 0.001, "longest_poll_s": 0.002, "deadline_s": 10.0, **options},
                ),
                host,
            )


def accepted(task_id: object = TASK) -> httpx.Response:
    return httpx.Response(200, json={"code": 200, "msg": "success", "data": {"taskId": task_id}})


def polled(flag: object, response: object = None, **data: object) -> httpx.Response:
    task = {"taskId": TASK, "successFlag": flag, "response": response, **data}
    return httpx.Response(200, json={"code": 200, "msg": "success", "data": task})


def done(link: str) -> httpx.Response:
    return polled(1, {"resultImageUrl": link})


async def answer_to(
    polls: list[httpx.Response], *, submit: httpx.Response | None = None, request: ImageRequest = ORDER, **options: Any
) -> tuple[ImageAnswer, Vendor]:
    """What comes of one order; `polls` ends with the done answer when it should."""
    vendor = Vendor(answers={SUBMIT: [submit or accepted()], POLL: polls})
    async with nanobanana(vendor, **options) as (model, host):
        vendor.answers[POLL] = polls or [done(host.link)]
        return await model.generate(request, Ledger()), vendor


def test_every_documented_answer_has_an_outcome_here() -> None:
    assert {page.name for page in PAGES} == set(SUBMIT_OUTCOMES) | set(POLL_OUTCOMES)


@pytest.mark.parametrize("name", SUBMIT_OUTCOMES)
async def test_each_documented_answer_to_an_order_has_its_outcome(name: str) -> None:
    expected = SUBMIT_OUTCOMES[name]
    page = exchange("nanobanana", name)
    if expected is None:
        answer, _ = await answer_to([], submit=page.answer())
        assert answer.task_id == TASK
        return
    with pytest.raises(expected) as caught:
        await answer_to([], submit=page.answer())
    assert type(caught.value) is expected
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", POLL_OUTCOMES)
async def test_each_documented_answer_to_a_poll_has_its_outcome(name: str) -> None:
    expected, page = POLL_OUTCOMES[name], exchange("nanobanana", name)
    vendor = Vendor(answers={POLL: []})
    async with nanobanana(vendor) as (model, host):
        vendor.answers[POLL] = [page.answer({"url": host.link, "task id": TASK})]
        if expected == "running":
            vendor.answers[POLL].append(done(host.link))
            expected = None
        if expected is None:
            answer = await model.resume(TASK)
            assert (answer.picture.width, answer.task_id, answer.cost_micros) == (128, TASK, None)
            return
        assert isinstance(expected, type)
        with pytest.raises(expected) as caught:
            await model.resume(TASK)
        assert type(caught.value) is expected
        assert len(vendor.requests) <= MAX_BAD_POLLS
        assert host.server is not None
        assert host.server.connections == 0


@pytest.mark.parametrize("name", ["submit_edit_ok", "submit_text_ok"])
async def test_an_order_is_as_documented(name: str) -> None:
    page = exchange("nanobanana", name)
    request = image_request(Capability.GENERATE, prompt="On dark stone.", from_words="text" in name)
    _, vendor = await answer_to([], submit=page.answer(), request=request)
    assert page.request_differences(vendor.requests[0]) == []
    assert exchange("nanobanana", "poll_done").request_differences(vendor.requests[1]) == []


async def test_a_callback_address_is_sent_only_when_there_is_one() -> None:
    _, vendor = await answer_to([])
    assert b"callBackUrl" not in vendor.requests[0].content
    _, vendor = await answer_to([], callback_url="https://shop.example.com/callbacks/1")
    assert b'"callBackUrl": "https://shop.example.com/callbacks/1"' in vendor.requests[0].content


@pytest.mark.parametrize(
    ("width", "height", "ratio"),
    [
        (1000, 1000, "1:1"),
        (4000, 3000, "4:3"),
        (3000, 4000, "3:4"),
        (1920, 1080, "16:9"),
        (1080, 1920, "9:16"),
        (6000, 4000, "3:2"),
        (1120, 1400, "4:5"),
        (5000, 100, "21:9"),
        (1, 8192, "9:16"),
    ],
)
def test_the_nearest_of_the_vendors_ratios_is_asked_for(width: int, height: int, ratio: str) -> None:
    assert nearest_ratio(width, height) == ratio


async def test_the_task_id_is_stored_before_the_first_poll() -> None:
    vendor = Vendor(answers={SUBMIT: [accepted()], POLL: []})
    ledger = Ledger(requests_so_far=lambda: len(vendor.requests))
    async with nanobanana(vendor) as (model, host):
        vendor.answers[POLL] = [polled(0), done(host.link)]
        await model.generate(ORDER, ledger)
    assert ledger.notes == [("sending", 0), (f"accepted {TASK}", 1)]
    assert vendor.paths() == [SUBMIT, POLL, POLL]


async def test_resuming_a_task_orders_nothing() -> None:
    vendor = Vendor(answers={POLL: []})
    async with nanobanana(vendor) as (model, host):
        vendor.answers[POLL] = [done(host.link)]
        assert (await model.resume(TASK)).picture.width == 128
    assert vendor.paths() == [POLL]
    assert vendor.requests[0].url.params["taskId"] == TASK


@pytest.mark.parametrize("task_id", [TASK, 4711])
async def test_a_task_id_under_a_server_error_is_used(task_id: object) -> None:
    """Asking after it is free, and tells whether anything was bought."""
    submit = httpx.Response(500, json={"code": 500, "msg": "oops", "data": {"taskId": task_id}})
    answer, _ = await answer_to([], submit=submit)
    assert answer.task_id == str(task_id)


@pytest.mark.parametrize("task_id", ["", "  ", "x" * 201, "a\x00b", ["t"], None, True])
async def test_what_is_no_task_id_leaves_the_charge_unknown(task_id: object) -> None:
    with pytest.raises(ChargeUnknownError):
        await answer_to([], submit=accepted(task_id))


@pytest.mark.parametrize("request_", [image_request(Capability.GENERATE, prompt=" ")])
async def test_an_order_without_words_is_not_sent(request_: ImageRequest) -> None:
    vendor = Vendor(answers={SUBMIT: [accepted()]})
    async with nanobanana(vendor) as (model, _):
        with pytest.raises(RequestRejectedError):
            await model.generate(request_, Ledger())
    assert vendor.requests == []


async def test_a_refused_connection_is_not_reached() -> None:
    async with raw_server(always(b"")) as gone:
        url = f"http://127.0.0.1:{gone.port}"
    async with nanobanana(build_http_client(), base_url=url) as (model, _):
        with pytest.raises(NotReachedError):
            await model.generate(ORDER, Ledger())


async def test_an_order_whose_answer_is_lost_is_not_sent_twice() -> None:
    async def hang_up(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        pass

    async with (
        raw_server(hang_up) as server,
        nanobanana(build_http_client(), base_url=f"http://127.0.0.1:{server.port}") as (model, _),
    ):
        with pytest.raises(ChargeUnknownError):
            await model.generate(ORDER, Ledger())
        assert len(server.requests) == 1


async def test_a_policy_refusal_of_the_order_is_told_apart() -> None:
    submit = httpx.Response(200, json={"code": 400, "msg": "Your prompt violates our content policy", "data": None})
    with pytest.raises(ContentRefusedError, match="content policy"):
        await answer_to([], submit=submit)


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(502, text="<html>502</html>"),
        httpx.Response(429, headers={"Retry-After": "0"}),
        httpx.Response(200, json={"code": 500, "msg": "Server exception", "data": None}),
        httpx.Response(200, json={"code": 404, "msg": "no such task yet", "data": None}),
        httpx.Response(200, text="<html>maintenance</html>"),
        httpx.Response(200, json={"code": 200, "data": None}),
        polled(7),
        polled("soon"),
        polled(None),
        polled(1, {}),
        polled(1, "not json"),
        polled(1, {"resultImageUrl": [None, ""]}),
    ],
    ids=str,
)
async def test_a_few_bad_polls_in_a_row_are_borne(trouble: httpx.Response) -> None:
    vendor = Vendor(answers={POLL: []})
    async with nanobanana(vendor) as (model, host):
        some = [trouble] * (MAX_BAD_POLLS - 1)
        vendor.answers[POLL] = [*some, polled(0), *some, done(host.link)]
        assert (await model.resume(TASK)).picture.width == 128


@pytest.mark.parametrize("flag", [1, "1", 1.0, " 1 "])
async def test_the_flag_is_read_in_any_spelling(flag: object) -> None:
    vendor = Vendor(answers={POLL: []})
    async with nanobanana(vendor) as (model, host):
        vendor.answers[POLL] = [polled(flag, {"resultUrls": [host.link]})]
        assert (await model.resume(TASK)).picture.width == 128


async def test_a_dropped_connection_while_polling_is_borne() -> None:
    async def drop_twice(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> None:
        if number >= 2:
            writer.write(http_answer(body=polled(3, errorMessage="out of paint").content))
            await writer.drain()

    async with (
        raw_server(drop_twice) as server,
        nanobanana(build_http_client(), base_url=f"http://127.0.0.1:{server.port}") as (model, _),
    ):
        with pytest.raises(TaskFailedError, match="out of paint"):
            await model.resume(TASK)


@pytest.mark.parametrize(
    "data", [{"errorCode": 400, "errorMessage": "no"}, {"errorCode": "400"}, {"errorMessage": "flagged by moderation"}]
)
async def test_a_task_that_policy_refused_is_told_apart(data: dict[str, object]) -> None:
    with pytest.raises(ContentRefusedError):
        await answer_to([polled(3, **data)])


async def test_a_task_that_never_ends_can_still_be_resumed_later() -> None:
    with pytest.raises(ChargeUnknownError, match="still not done"):
        await answer_to([polled(0)], deadline_s=0.1)


async def test_a_result_that_is_late_or_cut_is_fetched_again() -> None:
    picture = png(128, 128)
    answers = [http_answer(404), http_answer(503), http_answer(body=picture[:-20]), http_answer(body=picture)]
    assert len(answers) == DOWNLOAD_ATTEMPTS

    async def late(number: int, request: RawRequest, writer: asyncio.StreamWriter) -> bool:
        writer.write(answers[number])
        await writer.drain()
        return True

    answer, _ = await answer_to([], script=late)
    assert answer.picture.content == picture


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (always(http_answer(410)), BadResponseError),
        (always(http_answer(body=b"<html>not found</html>")), BadResponseError),
        (always(http_answer(body=png(8, 8))), BadResponseError),
        (always(http_answer(302, headers={"Location": "http://169.254.169.254/"})), BadResponseError),
        (always(http_answer(500)), ChargeUnknownError),
        (always(http_answer(body=b"half", headers={"Connection": "close"}, length=8)), ChargeUnknownError),
    ],
)
async def test_a_result_that_cannot_be_had_is_never_an_invitation_to_buy_again(
    script: Script, error: type[ProviderError]
) -> None:
    with pytest.raises(error) as caught:
        await answer_to([], script=script, deadline_s=0.5)
    assert type(caught.value) is error
    assert "169.254" not in str(caught.value)


async def test_the_key_goes_to_the_vendor_only() -> None:
    vendor = Vendor(answers={SUBMIT: [accepted()], POLL: []})
    async with nanobanana(vendor) as (model, host):
        vendor.answers[POLL] = [done(host.link)]
        await model.generate(ORDER, Ledger())
        assert host.server is not None
        assert "authorization" not in host.server.requests[0].headers
    assert {request.headers["authorization"] for request in vendor.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json={"code": 400, "msg": f"cannot fetch {SIGNED_LINK} with {KEY}"}),
        httpx.Response(400, text=f"cannot fetch {SIGNED_LINK} with {KEY}"),
    ],
)
async def test_an_error_never_quotes_the_signed_link_or_the_key(answer: httpx.Response) -> None:
    with pytest.raises(RequestRejectedError) as caught:
        await answer_to([], submit=answer)
    assert str(caught.value) == "nanobanana answered 400: cannot fetch [link] with [key]"
