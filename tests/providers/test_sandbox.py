"""The adapters against the sandbox, a process of its own that speaks the vendors' wire and errs on demand.

Its invoice is the judge: what the adapters call not accepted must not be billed, and nothing may be billed twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from domain import Capability, ImageRequest, TaskId
from errors import (
    AccountError,
    BadResponseError,
    ChargeUnknownError,
    ContentRefusedError,
    ProviderError,
    RateLimitError,
    RetryableError,
    TaskFailedError,
    TaskNotCreatedError,
)
from providers._download import ResultDownloader
from providers.nanobanana import NanoBanana
from providers.reve import JUDGING_S, Reve
from tests.providers.fakes import Ledger, StoredPicture, image_request, sandbox_downloader
from tests.sandbox.running import SandboxClient, SandboxProcess, running_neighbour
from transport import build_http_client

KEY = SecretStr("any-key")
PHOTO = (Path(__file__).parents[2] / "samples" / "cup.jpg").read_bytes()


@dataclass(kw_only=True)
class LinkedPicture(StoredPicture):
    url: str

    async def link(self) -> str:
        return self.url


@pytest.fixture(scope="module")
def sandbox_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = SandboxProcess(tmp_path_factory.mktemp("sandbox"), "--ready-made")
    yield running.url
    running.stop()


@pytest.fixture
def sandbox(sandbox_url: str) -> Iterator[SandboxClient]:
    with SandboxClient(sandbox_url) as client:
        client.reset()
        yield client


@dataclass(kw_only=True)
class Adapters:
    """Both adapters on the sandbox, with quick polls."""

    url: str
    http: httpx.AsyncClient
    downloader: ResultDownloader

    def reve(self, *, deadline_s: float = 60.0) -> Reve:
        return Reve(self.http, base_url=self.url, api_key=KEY, deadline_s=deadline_s)

    def nanobanana(self, *, deadline_s: float = 60.0) -> NanoBanana:
        return NanoBanana(
            self.http,
            base_url=self.url,
            api_key=KEY,
            downloader=self.downloader,
            first_poll_s=0.02,
            longest_poll_s=0.05,
            deadline_s=deadline_s,
        )


@pytest.fixture(scope="module")
async def adapters(sandbox_url: str) -> AsyncIterator[Adapters]:
    async with build_http_client() as http, sandbox_downloader(sandbox_url) as downloader:
        yield Adapters(url=sandbox_url, http=http, downloader=downloader)


@pytest.fixture
def scene() -> Iterator[ImageRequest]:
    with running_neighbour() as storage:
        storage.pictures["/cup.jpg"] = PHOTO
        yield image_request(
            Capability.GENERATE,
            prompt="On dark stone.",
            source=LinkedPicture(content=PHOTO, url=f"{storage.url}/cup.jpg?token=signed"),
            width=1200,
            height=800,
        )


def cut_out(fault: str | None = None) -> ImageRequest:
    prompt = "Remove the background." + (f" [[sandbox: {fault}]]" if fault else "")
    return image_request(prompt=prompt, source=StoredPicture(content=PHOTO), width=1200, height=800)


def billed(sandbox: SandboxClient) -> list[dict[str, Any]]:
    """The calls that cost money."""
    return [line for line in sandbox.invoice()["lines"] if line["credits"]]


def never_ends(fault: str) -> bool:
    return fault.startswith(("hang", "drip"))


async def test_a_background_is_removed_and_billed_as_reported(adapters: Adapters, sandbox: SandboxClient) -> None:
    sandbox.behave(ready_made=False)
    answer = await adapters.reve().generate(cut_out(), Ledger())
    assert answer.picture.has_alpha
    assert answer.picture.media_type == "image/png"
    (line,) = billed(sandbox)
    assert (line["cost_micros"], line["request_id"]) == (answer.cost_micros, answer.request_id)


@pytest.mark.parametrize("capability", [Capability.RESTORE, Capability.COLOURISE])
async def test_an_old_photograph_comes_back(adapters: Adapters, sandbox: SandboxClient, capability: Capability) -> None:
    request = image_request(capability, prompt="Restore this photograph.", source=StoredPicture(content=PHOTO))
    assert (await adapters.reve().generate(request, Ledger())).picture.width >= 64
    assert len(billed(sandbox)) == 1


async def test_the_balance_goes_down(adapters: Adapters, sandbox: SandboxClient) -> None:
    before = await adapters.reve().balance()
    await adapters.reve().generate(cut_out(), Ledger())
    assert before - await adapters.reve().balance() == billed(sandbox)[0]["credits"]


#: Fault, error, and whether the sandbox takes money for it.
REVE_FAULTS: list[tuple[str, type[ProviderError], bool]] = [
    ("rate_limit; retry_after=2", RateLimitError, False),
    ("rate_limit; retry_after=31536000", RateLimitError, False),
    ("out_of_credit", AccountError, False),
    ("bad_key", AccountError, False),
    ("server_error", ChargeUnknownError, False),
    ("server_error; accepted=true", ChargeUnknownError, True),
    ("server_error; status=503; html=true", ChargeUnknownError, False),
    ("reset", ChargeUnknownError, False),
    ("hang; seconds=3600", ChargeUnknownError, True),
    ("lost_answer", ChargeUnknownError, True),
    ("reset_in_body", ChargeUnknownError, True),
    ("truncated", ChargeUnknownError, True),
    ("drip", ChargeUnknownError, True),
    ("huge_body", ChargeUnknownError, True),
    ("empty_200", BadResponseError, True),
    ("empty_picture", BadResponseError, True),
    ("wrong_bytes; kind=html", BadResponseError, True),
    ("wrong_bytes; kind=garbage", BadResponseError, True),
    ("wrong_bytes; kind=type", BadResponseError, True),
    ("wrong_bytes; kind=broken", BadResponseError, True),
    ("policy_refusal", ContentRefusedError, False),
    ("policy_refusal; charged=true", ContentRefusedError, True),
    ("degenerate; kind=tiny", BadResponseError, True),
    ("degenerate; kind=transparent", BadResponseError, True),
    ("degenerate; kind=input", BadResponseError, True),
    ("decompression_bomb", BadResponseError, True),
    ("odd_fields; kind=violation_text", ContentRefusedError, True),
    ("odd_fields; kind=image_missing", BadResponseError, True),
]


@pytest.mark.parametrize(("fault", "expected", "paid"), REVE_FAULTS)
async def test_each_fault_of_reve_is_what_the_invoice_says(
    adapters: Adapters, sandbox: SandboxClient, fault: str, expected: type[ProviderError], *, paid: bool
) -> None:
    with pytest.raises(expected) as caught:
        await adapters.reve(deadline_s=JUDGING_S + 0.5 if never_ends(fault) else 60).generate(cut_out(fault), Ledger())
    assert type(caught.value) is expected
    lines = sandbox.invoice()["lines"]
    assert len(lines) == 1, "the adapter asks once"
    assert bool(lines[0]["credits"]) == paid
    if isinstance(caught.value, RetryableError | AccountError):
        assert not lines[0]["accepted"]
    if isinstance(caught.value, BadResponseError) and caught.value.cost_micros is not None:
        assert caught.value.cost_micros == lines[0]["cost_micros"]


@pytest.mark.parametrize("kind", ["credits_missing", "credits_text"])
async def test_odd_fields_do_no_harm(adapters: Adapters, sandbox: SandboxClient, kind: str) -> None:
    answer = await adapters.reve().generate(cut_out(f"odd_fields; kind={kind}"), Ledger())
    assert answer.cost_micros == billed(sandbox)[0]["cost_micros"], "the headers tell it too"


async def test_a_scene_is_drawn_from_a_signed_link(
    adapters: Adapters, scene: ImageRequest, sandbox: SandboxClient
) -> None:
    sandbox.behave(ready_made=False)
    ledger = Ledger()
    answer = await adapters.nanobanana().generate(scene, ledger)
    assert [note for note, _ in ledger.notes] == ["sending", f"accepted {answer.task_id}"]
    assert answer.task_id is not None
    assert (await adapters.nanobanana().resume(answer.task_id)).picture == answer.picture
    (line,) = billed(sandbox)
    assert line["cost_micros"] == adapters.nanobanana().price_micros(scene)


async def test_a_scene_is_drawn_from_words_alone(adapters: Adapters, sandbox: SandboxClient) -> None:
    answer = await adapters.nanobanana().generate(
        image_request(Capability.GENERATE, prompt="A stone table.", from_words=True), Ledger()
    )
    assert answer.picture.width >= 64
    assert len(billed(sandbox)) == 1


NANOBANANA_FAULTS: list[tuple[str, type[ProviderError] | None, bool]] = [
    ("rate_limit; retry_after=2", RateLimitError, False),
    ("rate_limit; layer=body", RateLimitError, False),
    ("out_of_credit", AccountError, False),
    ("out_of_credit; layer=body", AccountError, False),
    ("bad_key", AccountError, False),
    ("bad_key; layer=body", AccountError, False),
    ("server_error", ChargeUnknownError, False),
    ("server_error; layer=body", ChargeUnknownError, False),
    ("server_error; accepted=true", ChargeUnknownError, True),
    ("server_error; status=502; html=true", ChargeUnknownError, False),
    ("reset", ChargeUnknownError, False),
    ("hang; seconds=3600", ChargeUnknownError, True),
    ("lost_answer", ChargeUnknownError, True),
    ("reset_in_body", ChargeUnknownError, True),
    ("truncated", ChargeUnknownError, True),
    ("drip", ChargeUnknownError, True),
    ("huge_body", ChargeUnknownError, True),
    ("empty_200", ChargeUnknownError, True),
    ("empty_picture", BadResponseError, True),
    ("wrong_bytes; kind=html", BadResponseError, True),
    ("wrong_bytes; kind=type", BadResponseError, True),
    ("wrong_bytes; kind=broken", BadResponseError, True),
    ("policy_refusal", ContentRefusedError, False),
    ("policy_refusal; charged=true", ContentRefusedError, True),
    ("degenerate; kind=tiny", BadResponseError, True),
    ("degenerate; kind=transparent", BadResponseError, True),
    ("decompression_bomb", BadResponseError, True),
    ("odd_record; kind=json_text", None, True),
    ("odd_record; kind=result_list", None, True),
    ("odd_record; kind=result_urls", None, True),
    ("odd_record; kind=flag_text", None, True),
    ("odd_record; kind=message", None, True),
    ("task_failed", TaskFailedError, True),
    ("task_failed; flag=2; charged=false", TaskNotCreatedError, False),
    ("unknown_flag", BadResponseError, True),
    ("result_redirect", BadResponseError, True),
    ("result_redirect; direct=true", BadResponseError, True),
    ("result_redirect; to=file:///etc/passwd; direct=true", BadResponseError, True),
    ("result_gone", BadResponseError, True),
    ("result_gone; status=503", ChargeUnknownError, True),
]


@pytest.mark.parametrize(("fault", "expected", "paid"), NANOBANANA_FAULTS)
async def test_each_fault_of_nanobanana_is_what_the_invoice_says(
    adapters: Adapters,
    scene: ImageRequest,
    sandbox: SandboxClient,
    fault: str,
    expected: type[ProviderError] | None,
    *,
    paid: bool,
) -> None:
    sandbox.rule(fault_object(fault), provider="nanobanana", operation="generate")
    model = adapters.nanobanana(deadline_s=0.5 if never_ends(fault) else 60)
    if expected is None:
        assert (await model.generate(scene, Ledger())).picture.width >= 64
    else:
        with pytest.raises(expected) as caught:
            await model.generate(scene, Ledger())
        assert type(caught.value) is expected
        assert "signed" not in str(caught.value)
    orders = [line for line in sandbox.invoice()["lines"] if line["operation"] == "generate"]
    assert len(orders) == 1, "the adapter orders once"
    assert bool(orders[0]["credits"]) == paid


def fault_object(fault: str) -> dict[str, str]:
    name, *pairs = (part.strip() for part in fault.split(";"))
    return {"name": name, **dict(pair.split("=", 1) for pair in pairs)}


async def test_an_unknown_task_is_not_asked_after_for_ever(adapters: Adapters) -> None:
    with pytest.raises(ChargeUnknownError, match="does not say"):
        await adapters.nanobanana().resume(TaskId("task_of_another_account"))
