"""Queue, engine and ledger while providers refuse, are away, or stand in for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

import pipeline
import worker
from ai_clients import Models
from breaker import Breaker
from domain import CallProgress, Capability, ImageAnswer, ImageModel, ImageRequest, RecoversBy, TaskId
from errors import AccountError, ChargeUnknownError, NotReachedError, ProviderError
from model_wrappers import ThroughGate
from provider_gate import ProviderGate
from tests.fake_models import FakeModel
from tests.shop import Shop, small_photo
from worker import run_worker


def runs(shop: Shop) -> list[tuple[str, int, int]]:
    """(status, attempts, deferrals) of each."""
    rows = shop.rows("select status, attempts, deferrals from runs order by status, created_at")
    return [(row["status"], row["attempts"], row["deferrals"]) for row in rows]


def cutout_calls(shop: Shop) -> list[tuple[str, str]]:
    rows = shop.rows("select provider, state from calls where step_name = 'cutout' order by created_at")
    return [(row["provider"], row["state"]) for row in rows]


@asynccontextmanager
async def working(shop: Shop, **changes: Any) -> AsyncIterator[None]:
    stop = asyncio.Event()
    settings = shop.settings.model_copy(update={"poll_seconds": 0.3} | changes)
    task = asyncio.create_task(run_worker(settings, stop=stop))
    try:
        yield
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.1)


# -- in the queue, not in a slot


@pytest.mark.parametrize("places", [1, 8])
async def test_without_credit_one_run_says_so_and_the_others_stay_in_the_queue(shop: Shop, places: int) -> None:
    shop.sandbox.rule({"name": "out_of_credit"}, provider="reve")
    for number in range(5):
        await shop.upload(small_photo(number))
    await shop.work(worker_concurrency=places, provider_concurrency=1)
    assert runs(shop) == [("failed", 1, 0)] + [("pending", 0, 0)] * 4
    assert shop.rows("select error_code from runs where status = 'failed'") == [{"error_code": "provider_account"}]
    assert len(shop.sandbox.invoice(provider="reve")["lines"]) == 1
    shop.sandbox.delete("/_sandbox/faults")
    await shop.work()
    assert sorted(run[0] for run in runs(shop)) == ["completed"] * 4 + ["failed"]


async def test_a_provider_that_refuses_all_is_probed_and_every_run_finishes_when_it_is_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P2: at most one call a second reaches it, and no run loses an attempt over it."""
    monkeypatch.setattr(Breaker, "FIRST_PAUSE_S", 1.0)
    monkeypatch.setattr(Breaker, "LONGEST_PAUSE_S", 2.0)
    monkeypatch.setattr(Breaker, "FAILURES_TO_OPEN", 2)
    monkeypatch.setattr(pipeline, "DEFERRAL_S", 0.5)
    shop.sandbox.rule({"name": "rate_limit", "retry_after": "0"}, provider="reve")
    for number in range(5):
        await shop.upload(small_photo(number))
    async with working(shop, max_retries=1):
        await asyncio.sleep(2)
        shop.sandbox.delete("/_sandbox/invoice")
        await asyncio.sleep(3)
        assert len(shop.sandbox.invoice(provider="reve")["lines"]) <= 3
        states = runs(shop)
        assert sum(status == "pending" for status, _, _ in states) >= 4
        assert all(attempts == 0 for status, attempts, _ in states if status == "pending")
        shop.sandbox.delete("/_sandbox/faults")
        await until(lambda: {status for status, _, _ in runs(shop)} == {"completed"})
    assert shop.bought() == {"nanobanana": 20, "reve": 5}


async def test_a_run_that_was_not_even_asked_for_does_not_use_up_its_deferrals(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it meets a paused provider."""
    gate = ProviderGate("paused", start=1, most=1, patience_s=60)
    permit = await gate.enter()
    gate.failed(permit, AccountError("no credit", provider="paused"))
    monkeypatch.setattr(ProviderGate, "intake", 2)
    use(monkeypatch, [ThroughGate(FakeModel(provider="paused"), gate)])
    await shop.upload()
    stop = asyncio.Event()
    task = asyncio.create_task(run_worker(shop.settings, stop=stop))
    await until(lambda: len(shop.rows("select 1 from events where type = 'run.deferred'")) > 5)
    stop.set()
    await task
    assert runs(shop) == [("pending", 0, 0)]
    [told] = shop.rows("select distinct data ->> 'reason' as reason from events where data ? 'reason'")
    assert told == {"reason": "paused takes nothing for now: no credit"}


async def test_a_stop_does_not_wait_for_a_place(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent: the run is handed back at once, and its call is sent by the next worker."""
    gate = ProviderGate("fake", start=1, most=1, patience_s=60)
    permit = await gate.enter()
    model = ThroughGate(FakeModel(), gate)
    use(monkeypatch, [model])
    await shop.upload()
    async with asyncio.timeout(20), working(shop):
        await until(lambda: gate.state.waiting == 1)
    assert runs(shop) == [("pending", 0, 0)]
    gate.ended(permit)
    await shop.work()
    assert cutout_calls(shop) == [("fake", "done")]


# -- failover


def use(monkeypatch: pytest.MonkeyPatch, cutters: Sequence[ImageModel]) -> None:
    """Let workers cut out with these, in their order, and draw scenes with another fake."""
    scenes = FakeModel(provider="scenes")
    by_capability = {Capability.REMOVE_BACKGROUND: tuple(cutters), Capability.GENERATE: (scenes,)}
    names = {model.provider for models in by_capability.values() for model in models}
    gates = {name: ProviderGate(name, start=16, most=16, patience_s=60) for name in names}

    @asynccontextmanager
    async def models(*_: object) -> AsyncIterator[Models]:
        yield Models(by_capability=by_capability, gates=gates)

    monkeypatch.setattr(worker, "open_models", models)


def refusing(provider: str, *errors: ProviderError | None) -> FakeModel:
    """Answers with these, one after another, then with pictures."""
    left = list(errors)
    return FakeModel(provider=provider, latency_s=0, verdict=lambda: left.pop(0) if left else None)


@pytest.mark.parametrize("error", [NotReachedError("down", provider="a"), AccountError("no credit", provider="a")])
async def test_the_second_provider_is_asked_when_the_first_takes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: ProviderError
) -> None:
    """Each has its own row in the ledger, and only one costs."""
    use(monkeypatch, [refusing("a", error), refusing("b")])
    product = await shop.processed(await shop.upload())
    assert product["status"] == "completed"
    assert cutout_calls(shop) == [("a", "failed"), ("b", "done")]
    [spent] = shop.rows("select sum(settled_micros) as micros from calls where step_name = 'cutout'")
    assert spent["micros"] == 1000


async def test_a_paused_first_provider_is_passed_over(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = ProviderGate("a", start=1, most=1, patience_s=60)
    permit = await gate.enter()
    gate.failed(permit, AccountError("no credit", provider="a"))
    first = FakeModel(provider="a")
    use(monkeypatch, [ThroughGate(first, gate), refusing("b")])
    assert (await shop.processed(await shop.upload()))["status"] == "completed"
    assert first.arrivals == []


async def test_a_charge_that_may_have_been_made_is_never_made_elsewhere(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one repeat that is allowed goes to the same provider; when that is refused, the run waits."""
    second = refusing("b")
    lost, refused = ChargeUnknownError("lost", provider="a"), NotReachedError("down", provider="a")
    use(monkeypatch, [refusing("a", lost, refused, refused), second])
    await shop.upload()
    for _ in range(2):
        await shop.work()
        assert runs(shop)[0][0] == "pending"
        shop.execute("update runs set run_at = now() where true")
    await shop.work()
    assert runs(shop)[0][0] == "completed"
    assert cutout_calls(shop) == [("a", "unknown"), ("a", "failed"), ("a", "failed"), ("a", "done")]
    assert second.arrivals == []


async def test_a_task_that_is_open_at_the_second_provider_is_finished_there(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although the first is back."""

    class Leaving(FakeModel):
        async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
            await progress.sending()
            await progress.accepted(TaskId("task-1"))
            stop.set()
            await asyncio.sleep(3600)
            raise AssertionError("unreachable")

    stop = asyncio.Event()
    first = refusing("a", NotReachedError("down", provider="a"))
    use(monkeypatch, [first, Leaving(provider="b", recovers_by=RecoversBy.TASK_ID)])
    await shop.upload()
    await run_worker(shop.settings, stop=stop)
    assert cutout_calls(shop) == [("a", "failed"), ("b", "sent")]
    await shop.work()
    assert runs(shop)[0][0] == "completed"
    assert cutout_calls(shop) == [("a", "failed"), ("b", "done")]
    assert len(first.arrivals) == 1


async def test_a_picture_of_the_second_provider_is_used_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = refusing("a", NotReachedError("down", provider="a")), refusing("b")
    use(monkeypatch, [first, second])
    product_id = await shop.upload()
    await shop.processed(product_id)
    assert (await shop.again(product_id)).status_code == 202
    assert (await shop.processed(product_id))["status"] == "completed"
    assert (len(first.arrivals), len(second.arrivals)) == (1, 1)


async def test_when_all_refuse_the_run_is_put_off(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, [refusing(name, NotReachedError("down", provider=name)) for name in ("a", "b")])
    await shop.upload()
    await shop.work()
    assert runs(shop) == [("pending", 0, 1)]
