"""The gate in virtual time: hours of a provider's moods in milliseconds, the same at each run."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breaker import Breaker, BreakerMode
from domain import ImageAnswer, RecoversBy
from errors import (
    AccountError,
    ChargeUnknownError,
    ContentRefusedError,
    NotReachedError,
    ProviderError,
    ProviderPausedError,
    RateLimitError,
)
from model_wrappers import RepeatWhenNothingWasAccepted, ThroughGate
from provider_gate import LONGEST_SHARED_WAIT_S, TASKS_PER_PLACE, Intake, Permit, ProviderGate
from tests.fake_models import FakeModel, Quota, now
from tests.providers.fakes import Ledger, image_request
from tests.virtual_time import in_virtual_time

PATIENCE_S = 60.0


def gate_of(*, start: int = 16, most: int = 64, patience_s: float = PATIENCE_S) -> ProviderGate:
    return ProviderGate("fake", start=start, most=most, patience_s=patience_s)


def wrapped(vendor: FakeModel, gate: ProviderGate) -> RepeatWhenNothingWasAccepted:
    through = ThroughGate(vendor, gate)
    return RepeatWhenNothingWasAccepted(through, budget=gate.repeats, max_attempts=4, patience_s=gate.patience_s)


async def ask(model: ThroughGate | RepeatWhenNothingWasAccepted) -> ImageAnswer:
    return await model.generate(image_request(), Ledger())


async def until_answered(model: RepeatWhenNothingWasAccepted, *, pause_s: float = 1.0) -> None:
    """A run of one step: put off when nothing is accepted, bought again when the charge is unknown."""
    while True:
        try:
            await ask(model)
        except (RateLimitError, NotReachedError, ProviderPausedError, ChargeUnknownError):
            await asyncio.sleep(pause_s)
        else:
            return


async def at_once(count: int, work: Callable[[], Awaitable[object]], *, slots: int) -> None:
    """Do it `count` times in `slots` slots."""
    free = asyncio.Semaphore(slots)

    async def one() -> None:
        async with free:
            await work()

    await asyncio.gather(*(one() for _ in range(count)))


async def open_by_failures(gate: ProviderGate) -> None:
    vendor = FakeModel(verdict=lambda: NotReachedError("down", provider="fake"))
    while gate.state.mode is BreakerMode.CLOSED:
        with pytest.raises(NotReachedError):
            await ask(ThroughGate(vendor, gate))


# -- places


@given(
    start=st.integers(1, 20),
    most=st.integers(1, 20),
    fates=st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from(["answer", "429", "refused", "cancelled", "down"])), max_size=60
    ),
)
@settings(max_examples=60, deadline=None)
def test_no_place_is_lost_and_no_bound_is_broken(start: int, most: int, fates: list[tuple[float, str]]) -> None:
    async def main() -> None:
        gate = gate_of(start=start, most=most)
        held = 0

        async def one(pause_s: float, fate: str) -> None:
            nonlocal held
            await asyncio.sleep(pause_s)
            permit: Permit | None = None
            try:
                permit = await gate.enter()
                held += 1
                assert held <= most
                await asyncio.sleep(0.3)
            except ProviderPausedError:
                return
            finally:
                if permit is not None:
                    held -= 1
                    match fate:
                        case "answer":
                            gate.accepted(permit)
                        case "429":
                            gate.failed(permit, RateLimitError("no", provider="fake", retry_after=pause_s))
                        case "refused":
                            gate.failed(permit, ContentRefusedError("no", provider="fake"))
                        case "down":
                            gate.failed(permit, NotReachedError("no", provider="fake"))
                    gate.ended(permit)

        tasks = []
        for pause_s, fate in fates:
            task = asyncio.ensure_future(one(pause_s, fate))
            if fate == "cancelled":
                asyncio.get_running_loop().call_later(pause_s + 0.2, task.cancel)
            tasks.append(task)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [error for task in tasks if not task.cancelled() and (error := task.exception())] == []
        assert (gate.state.in_flight, gate.state.waiting) == (0, 0)
        await asyncio.sleep(120)
        assert gate.state.limit >= 1
        await ask(ThroughGate(FakeModel(), gate))

    in_virtual_time(main())


def test_a_place_that_is_cancelled_in_the_moment_it_is_given_is_given_on() -> None:
    async def main() -> None:
        gate = gate_of(start=1, most=1)
        first = await gate.enter()
        second, third = asyncio.ensure_future(gate.enter()), asyncio.ensure_future(gate.enter())
        await asyncio.sleep(0)
        gate.ended(first)
        second.cancel()
        assert (await third).is_probe is False
        assert gate.state.in_flight == 1

    in_virtual_time(main())


def test_waiting_for_a_place_has_an_end() -> None:
    async def main() -> None:
        gate = gate_of(start=1, most=1, patience_s=7)
        await gate.enter()
        with pytest.raises(ProviderPausedError, match="no place"):
            await gate.enter()
        assert now() == pytest.approx(7)
        assert gate.state.waiting == 0

    in_virtual_time(main())


def test_a_task_gives_its_place_back_as_soon_as_it_is_accepted() -> None:
    async def main() -> None:
        gate = gate_of(start=1, most=1)
        vendor = FakeModel(recovers_by=RecoversBy.TASK_ID, latency_s=30)
        await asyncio.gather(*(ask(ThroughGate(vendor, gate)) for _ in range(TASKS_PER_PLACE)))
        assert vendor.most_in_flight == TASKS_PER_PLACE
        assert now() == pytest.approx(30)

    in_virtual_time(main())


def test_running_tasks_are_bounded_too() -> None:
    async def main() -> None:
        vendor = FakeModel(recovers_by=RecoversBy.TASK_ID, latency_s=1)
        model = ThroughGate(vendor, gate_of(start=2, most=2))
        await asyncio.gather(*(ask(model) for _ in range(40)))
        assert vendor.most_in_flight == 2 * TASKS_PER_PLACE

    in_virtual_time(main())


# -- 429


def refuse_once(retry_after: float | None) -> Callable[[], ProviderError | None]:
    errors = [RateLimitError("no", provider="fake", retry_after=retry_after)]
    return lambda: errors.pop() if errors else None


@pytest.mark.parametrize(("retry_after", "waits_s"), [(7, 7), (None, 1), (31536000, LONGEST_SHARED_WAIT_S)])
def test_one_refusal_slows_all(retry_after: float | None, waits_s: float) -> None:
    """In seconds as asked, capped, or our own guess."""

    async def main() -> None:
        gate = gate_of(patience_s=2 * LONGEST_SHARED_WAIT_S)
        with pytest.raises(RateLimitError):
            await ask(ThroughGate(FakeModel(verdict=refuse_once(retry_after)), gate))
        vendor = FakeModel()
        await asyncio.gather(*(ask(ThroughGate(vendor, gate)) for _ in range(5)))
        assert vendor.arrivals[0] == pytest.approx(waits_s)

    in_virtual_time(main())


def test_refusals_without_a_wait_are_waited_for_ever_longer() -> None:
    async def main() -> None:
        gate = gate_of()
        waits = []
        for _ in range(4):
            started = now()
            with pytest.raises(RateLimitError):
                await ask(ThroughGate(FakeModel(verdict=refuse_once(None)), gate))
            waits.append(round(now() - started))
        assert waits == [0, 1, 2, 4]

    in_virtual_time(main())


@pytest.mark.parametrize(
    ("latency_s", "calls", "seconds"), [(0.05, 10, 1), (1.0, 10, 1), (20.0, 60, 60), (0.2, 10, 60)]
)
def test_a_provider_that_allows_a_rate_refuses_few(latency_s: float, calls: int, seconds: float) -> None:
    """After 200 calls of warm-up, of 1000 less than 2 % are refused, at 75 % of the allowed rate or more."""

    async def main() -> None:
        vendor = FakeModel(latency_s=latency_s, verdict=Quota(calls=calls, seconds=seconds))
        model = wrapped(vendor, gate_of())
        await at_once(200, lambda: until_answered(model), slots=40)
        started, refused = now(), vendor.refusals
        await at_once(1000, lambda: until_answered(model), slots=40)
        per_s = 1000 / (now() - started - latency_s)
        share = (vendor.refusals - refused) / 1000
        assert share < 0.02
        assert per_s > 0.75 * calls / seconds

    in_virtual_time(main())


def test_a_provider_that_allows_so_many_at_once_refuses_few() -> None:
    async def main() -> None:
        vendor = FakeModel(latency_s=5)

        def verdict() -> ProviderError | None:
            return RateLimitError("no", provider="fake") if vendor.in_flight >= 10 else None

        vendor.verdict = verdict
        model = wrapped(vendor, gate_of())
        await at_once(200, lambda: until_answered(model), slots=40)
        started, refused = now(), vendor.refusals
        await at_once(1000, lambda: until_answered(model), slots=40)
        assert (vendor.refusals - refused) / 1000 < 0.02
        assert 1000 / (now() - started) > 0.8 * 10 / 5

    in_virtual_time(main())


# -- failures


def test_a_third_of_failures_costs_no_more_than_half_again() -> None:
    """P2: 200 calls are done with at most 300, some of them refused, some lost."""

    async def main() -> None:
        chance = random.Random(1)

        def verdict() -> ProviderError | None:
            if chance.random() >= 0.3:
                return None
            kind = NotReachedError if chance.random() < 0.5 else ChargeUnknownError
            return kind("down", provider="fake")

        vendor = FakeModel(verdict=verdict)
        await at_once(200, lambda: until_answered(wrapped(vendor, gate), pause_s=5), slots=20)
        assert len(vendor.arrivals) <= 300

    gate = gate_of()
    in_virtual_time(main())


def test_a_provider_that_refuses_all_is_probed_and_work_goes_on_when_it_is_back() -> None:
    """P2: at most one probe a second."""

    async def main() -> None:
        vendor = FakeModel(verdict=lambda: NotReachedError("down", provider="fake") if now() < 300 else None)
        gate = gate_of()
        done = asyncio.ensure_future(at_once(200, lambda: until_answered(wrapped(vendor, gate), pause_s=7), slots=20))
        await asyncio.sleep(299)
        probes = [arrived_at for arrived_at in vendor.arrivals if arrived_at > 1]
        assert 3 < len(probes) < 12
        assert min(later - earlier for earlier, later in pairwise(probes)) >= 1
        await done
        assert now() < 420
        assert gate.state.mode is BreakerMode.CLOSED

    in_virtual_time(main())


def test_while_it_is_paused_nothing_is_read_and_nothing_is_marked_as_sent() -> None:
    class UnreadableModel(FakeModel):
        async def generate(self, request: Any, progress: Any) -> ImageAnswer:
            raise AssertionError("it was asked")

    async def main() -> None:
        gate = gate_of()
        await open_by_failures(gate)
        ledger = Ledger()
        with pytest.raises(ProviderPausedError, match="takes nothing for now: down"):
            await ThroughGate(UnreadableModel(), gate).generate(image_request(), ledger)
        assert ledger.notes == []

    in_virtual_time(main())


def test_when_it_is_paused_those_that_wait_are_sent_away() -> None:
    async def main() -> None:
        gate = gate_of(start=1, most=1)
        permit = await gate.enter()
        waiting = [asyncio.ensure_future(gate.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        gate.failed(permit, AccountError("no credit", provider="fake"))
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ProviderPausedError] * 3

    in_virtual_time(main())


def test_only_the_first_call_is_told_that_the_account_is_locked() -> None:
    """What the others are for can wait until an operator has acted; one of them looks once a minute."""

    async def main() -> None:
        gate = gate_of()
        vendor = FakeModel(verdict=lambda: AccountError("no credit", provider="fake"))
        model = ThroughGate(vendor, gate)
        outcomes = await asyncio.gather(*(ask(model) for _ in range(5)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [AccountError] + [ProviderPausedError] * 4
        seen = len(vendor.arrivals)
        for _ in range(300):
            await asyncio.sleep(1)
            with pytest.raises(ProviderPausedError):
                await ask(model)
        assert len(vendor.arrivals) - seen == 5

    in_virtual_time(main())


def test_an_answer_that_refuses_the_picture_is_no_failure() -> None:
    async def main() -> None:
        gate = gate_of()
        vendor = FakeModel(verdict=lambda: ContentRefusedError("no", provider="fake"))
        for _ in range(20):
            with pytest.raises(ContentRefusedError):
                await ask(ThroughGate(vendor, gate))
        assert gate.intake is Intake.FREELY

    in_virtual_time(main())


def test_a_probe_that_is_cancelled_leaves_room_for_another() -> None:
    async def main() -> None:
        gate = gate_of()
        await open_by_failures(gate)
        await asyncio.sleep(Breaker.FIRST_PAUSE_S)
        probe = asyncio.ensure_future(ask(ThroughGate(FakeModel(latency_s=30), gate)))
        await asyncio.sleep(1)
        second = asyncio.ensure_future(ask(ThroughGate(FakeModel(), gate)))
        await asyncio.sleep(1)
        modes = [gate.state.mode]
        probe.cancel()
        await second
        assert [*modes, gate.state.mode] == [BreakerMode.PROBING, BreakerMode.CLOSED]

    in_virtual_time(main())


def test_it_says_what_may_be_begun() -> None:
    async def main() -> None:
        gate = gate_of()
        seen = [gate.intake]
        await open_by_failures(gate)
        seen.append(gate.intake)
        assert gate.state.resumes_in_s == pytest.approx(Breaker.FIRST_PAUSE_S)
        assert gate.state.reason == "down"
        await asyncio.sleep(Breaker.FIRST_PAUSE_S)
        seen.append(gate.intake)
        await ask(ThroughGate(FakeModel(), gate))
        seen.append(gate.intake)
        assert seen == [Intake.FREELY, Intake.NONE, Intake.ONE, Intake.FREELY]

    in_virtual_time(main())


def test_it_tells_the_operator(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gate = gate_of()
        with pytest.raises(RateLimitError):
            await ask(ThroughGate(FakeModel(verdict=refuse_once(2)), gate))
        await open_by_failures(gate)
        await asyncio.sleep(Breaker.FIRST_PAUSE_S)
        await ask(ThroughGate(FakeModel(), gate))

    with caplog.at_level(logging.INFO, logger="provider_gate"):
        in_virtual_time(main())
    assert [record.message for record in caplog.records] == ["provider.slowed", "provider.paused", "provider.resumed"]
