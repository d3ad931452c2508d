from __future__ import annotations

import asyncio

import pytest

from byte_budget import ByteBudget


async def hold(budget: ByteBudget, size: int, entered: asyncio.Event, leave: asyncio.Event) -> None:
    async with budget.holding(size):
        entered.set()
        await leave.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_does_not_fit_waits_until_there_is_room() -> None:
    budget = ByteBudget(100)
    first, second, leave = asyncio.Event(), asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(hold(budget, 60, first, leave)), asyncio.create_task(hold(budget, 60, second, leave))]
    await settle()
    assert (first.is_set(), second.is_set()) == (True, False)
    leave.set()
    await asyncio.gather(*tasks)
    assert second.is_set()


async def test_a_small_one_does_not_overtake_a_large_one() -> None:
    """Else a stream of small pictures would keep a large one waiting for ever."""
    budget = ByteBudget(100)
    events = [asyncio.Event() for _ in range(3)]
    leave = [asyncio.Event() for _ in range(3)]
    tasks = [asyncio.create_task(hold(budget, size, events[n], leave[n])) for n, size in enumerate((60, 90, 10))]
    await settle()
    assert [event.is_set() for event in events] == [True, False, False]
    leave[0].set()
    await settle()
    assert [event.is_set() for event in events] == [True, True, True]
    for event in leave:
        event.set()
    await asyncio.gather(*tasks)


async def test_what_is_larger_than_the_budget_gets_all_of_it() -> None:
    budget = ByteBudget(100)
    async with asyncio.timeout(1), budget.holding(10_000):
        waiting = asyncio.create_task(hold(budget, 1, asyncio.Event(), asyncio.Event()))
        await settle()
        assert not waiting.done()
        waiting.cancel()


async def test_leaving_the_queue_gives_way_to_the_next() -> None:
    budget = ByteBudget(100)
    entered, leave = asyncio.Event(), asyncio.Event()
    leave.set()
    async with budget.holding(50):
        gives_up = asyncio.create_task(hold(budget, 100, asyncio.Event(), asyncio.Event()))
        next_one = asyncio.create_task(hold(budget, 50, entered, leave))
        await settle()
        gives_up.cancel()
        await settle()
        assert entered.is_set()
        await next_one
    with pytest.raises(asyncio.CancelledError):
        await gives_up


async def test_cancelled_in_the_moment_of_admission_nothing_leaks() -> None:
    budget = ByteBudget(100)
    async with budget.holding(100):
        waiting = asyncio.create_task(hold(budget, 100, asyncio.Event(), asyncio.Event()))
        await settle()
    waiting.cancel()  # admitted by the line above, not yet resumed
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(1), budget.holding(100):
        pass
