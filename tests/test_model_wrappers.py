"""What the wrappers do around an adapter, with the ledger's order of events and with real answers of the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from domain import ImageAnswer, ImageModel, RecoversBy, TaskId
from errors import (
    ChargeUnknownError,
    LeaseLostError,
    NotReachedError,
    ProviderError,
    ProviderPausedError,
    RateLimitError,
    RetryableError,
    TaskNotCreatedError,
)
from limits import RetryBudget
from model_wrappers import LONGEST_PAUSE_S, NamedAfterSandbox, RepeatWhenNothingWasAccepted, ThroughGate
from provider_gate import ProviderGate
from providers.reve import JUDGING_S, Reve
from tests.fake_models import FakeModel, Quota, now
from tests.providers.fakes import Ledger, StoredPicture, image_request
from tests.providers.test_sandbox import PHOTO
from tests.sandbox.running import SandboxClient
from tests.virtual_time import in_virtual_time
from transport import build_http_client


def gate_of(**changes: Any) -> ProviderGate:
    return ProviderGate("fake", **({"start": 16, "most": 64, "patience_s": 60.0} | changes))


def repeating(vendor: ImageModel, gate: ProviderGate, *, max_attempts: int = 4) -> RepeatWhenNothingWasAccepted:
    through = ThroughGate(vendor, gate)
    return RepeatWhenNothingWasAccepted(
        through, budget=gate.repeats, max_attempts=max_attempts, patience_s=gate.patience_s
    )


def failing(*errors: ProviderError | None) -> Callable[[], ProviderError | None]:
    """One after another, the last one for ever."""
    left = list(errors)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


def refusal(retry_after: float | None = 0) -> RateLimitError:
    return RateLimitError("no", provider="fake", retry_after=retry_after)


class TimedLedger(Ledger):
    """Notes when it was told."""

    def __init__(self) -> None:
        super().__init__(requests_so_far=lambda: round(now()))


# -- the order of events


def test_the_place_is_waited_for_before_the_call_is_marked_as_sent() -> None:
    async def main() -> None:
        gate, ledger = gate_of(start=1, most=1), TimedLedger()
        first = asyncio.ensure_future(
            ThroughGate(FakeModel(latency_s=9), gate).generate(image_request(), TimedLedger())
        )
        await asyncio.sleep(1)
        await ThroughGate(FakeModel(), gate).generate(image_request(), ledger)
        await first
        assert ledger.notes == [("sending", 9)]

    in_virtual_time(main())


def test_reading_the_source_holds_no_place() -> None:
    class SlowPicture(StoredPicture):
        async def read(self) -> bytes:
            await asyncio.sleep(50)
            return self.content

    async def main() -> None:
        gate = gate_of(start=1, most=1)
        slow = ThroughGate(FakeModel(), gate).generate(image_request(source=SlowPicture()), Ledger())
        reading = asyncio.ensure_future(slow)
        await asyncio.sleep(1)
        await ThroughGate(FakeModel(), gate).generate(image_request(), Ledger())
        assert now() < 2
        await reading

    in_virtual_time(main())


def test_a_lease_that_is_lost_meanwhile_gives_the_place_back() -> None:
    class LostLedger(Ledger):
        async def sending(self) -> None:
            raise LeaseLostError("lost")

    async def main() -> None:
        gate, vendor = gate_of(), FakeModel()
        with pytest.raises(LeaseLostError):
            await ThroughGate(vendor, gate).generate(image_request(), LostLedger())
        assert (vendor.arrivals, gate.state.in_flight) == ([], 0)

    in_virtual_time(main())


def test_asking_for_an_accepted_task_passes_a_paused_provider() -> None:
    """It costs nothing, and a paid picture may wait there."""

    async def main() -> None:
        gate = gate_of(start=1, most=1)
        await gate.enter()
        vendor = FakeModel(recovers_by=RecoversBy.TASK_ID)
        answer = await repeating(vendor, gate).resume(TaskId("task-1"))
        assert answer.picture.width == 96

    in_virtual_time(main())


# -- repeats


@pytest.mark.parametrize("error", [refusal(), NotReachedError("down", provider="fake")])
def test_what_was_not_accepted_is_sent_again(error: ProviderError) -> None:
    async def main() -> None:
        vendor = FakeModel(verdict=failing(error, error, None))
        assert await repeating(vendor, gate_of()).generate(image_request(), Ledger())
        assert len(vendor.arrivals) == 3

    in_virtual_time(main())


@pytest.mark.parametrize(
    "error",
    [
        ChargeUnknownError("lost", provider="fake"),
        TaskNotCreatedError("no", provider="fake"),
        refusal(LONGEST_PAUSE_S + 1),
        ProviderPausedError("later", provider="fake"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_be_charged_or_asks_for_too_long_is_not(error: ProviderError) -> None:
    async def main() -> None:
        vendor = FakeModel(verdict=failing(error, None))
        with pytest.raises(type(error)):
            await repeating(vendor, gate_of()).generate(image_request(), Ledger())
        assert len(vendor.arrivals) == 1

    in_virtual_time(main())


def test_repeats_beyond_the_budget_are_left_to_the_queue() -> None:
    """A hundred calls of which each first attempt is refused."""

    async def main() -> None:
        budget = RetryBudget()
        outcomes: list[object] = []
        for _ in range(100):
            vendor = FakeModel(verdict=failing(refusal(0), None))
            model = RepeatWhenNothingWasAccepted(vendor, budget=budget, max_attempts=4, patience_s=60)
            outcomes += await asyncio.gather(model.generate(image_request(), Ledger()), return_exceptions=True)
        repeated = sum(isinstance(outcome, ImageAnswer) for outcome in outcomes)
        assert repeated == pytest.approx(RetryBudget.MOST + RetryBudget.SHARE * 100, abs=1)

    in_virtual_time(main())


# -- deadlines


async def test_the_whole_wrapped_call_ends_although_the_answer_drips(shop_sandbox: SandboxClient) -> None:
    """P4: a byte now and then resets every read timer; the deadline of the call does not care."""
    shop_sandbox.reset()
    shop_sandbox.rule({"name": "drip"}, provider="reve")
    async with build_http_client() as http:
        vendor = Reve(http, base_url=str(shop_sandbox.base_url), api_key=SecretStr("k"), deadline_s=JUDGING_S + 0.5)
        model = repeating(vendor, gate := gate_of())
        started = asyncio.get_running_loop().time()
        with pytest.raises(ChargeUnknownError, match="in time"):
            await model.generate(image_request(source=StoredPicture(content=PHOTO)), Ledger())
        assert asyncio.get_running_loop().time() - started < model.deadline_s
        assert gate.state.in_flight == 0


async def test_waiting_for_leave_to_send_is_not_taken_from_the_providers_time(shop_sandbox: SandboxClient) -> None:
    class SlowLedger(Ledger):
        async def sending(self) -> None:
            await asyncio.sleep(1)
            await super().sending()

    shop_sandbox.reset()
    async with build_http_client() as http:
        vendor = Reve(http, base_url=str(shop_sandbox.base_url), api_key=SecretStr("k"), deadline_s=JUDGING_S + 0.9)
        assert await vendor.generate(image_request(source=StoredPicture(content=PHOTO)), SlowLedger())


def test_a_wrapped_model_tells_how_long_it_may_take() -> None:
    """Links to pictures are signed for that long."""
    model = repeating(FakeModel(deadline_s=100), gate_of(patience_s=20))
    assert model.deadline_s == 100 + 20 + 20 + LONGEST_PAUSE_S


def test_pictures_of_the_sandbox_bear_its_name() -> None:
    assert NamedAfterSandbox(FakeModel()).model == "fake-1 (sandbox)"


# -- a provider that allows a rate, on the wire


class LimitedTransport(httpx.AsyncBaseTransport):
    """Lets so many requests a second through to the real server and answers the others with 429."""

    def __init__(self, inner: httpx.AsyncBaseTransport, quota: Quota) -> None:
        self._inner = inner
        self._quota = quota
        self.refused = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        error = self._quota()
        if error is None:
            return await self._inner.handle_async_request(request)
        self.refused += 1
        await request.aread()
        return httpx.Response(429, headers={"Retry-After": f"{error.retry_after:.3f}"}, request=request)


async def test_two_hundred_calls_on_the_wire_meet_few_refusals(shop_sandbox: SandboxClient) -> None:
    """P1: the provider allows 20 calls a second; after 40 calls to learn it, of 160 less than 2 % are refused."""
    shop_sandbox.reset()
    gate = gate_of()

    async def one(model: ImageModel) -> None:
        while True:
            try:
                await model.generate(image_request(source=StoredPicture()), Ledger())
            except RetryableError:
                await asyncio.sleep(0.5)
            else:
                return

    async def at_once(count: int, model: ImageModel) -> None:
        await asyncio.gather(*(one(model) for _ in range(count)))

    async with build_http_client() as http:
        limited = LimitedTransport(http._transport, Quota(calls=10, seconds=0.5, provider="reve"))
        async with httpx.AsyncClient(transport=limited) as client:
            model = repeating(Reve(client, base_url=str(shop_sandbox.base_url), api_key=SecretStr("k")), gate)
            await at_once(40, model)
            learning = limited.refused
            await at_once(160, model)
            refused = limited.refused - learning
    assert learning > 0
    assert refused <= 3
    assert len(shop_sandbox.invoice()["lines"]) == 200
