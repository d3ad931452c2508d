"""How often a task is asked after: its end is noticed late by at most a share of its age."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from domain import TaskId
from errors import ChargeUnknownError
from providers._download import ResultDownloader
from providers.nanobanana import FIRST_POLL_S, LONGEST_POLL_S, MAX_BAD_POLLS, MOST_LATE, NanoBanana
from tests.providers.fakes import KEY


class Clock:
    """The event loop's time, moved on by every sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.polls: list[float] = []
        self._began = self.now
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    def note_poll(self) -> None:
        self.polls.append(self.now - self._began)

    @property
    def pauses(self) -> list[float]:
        return [later - earlier for earlier, later in zip([0.0, *self.polls], self.polls, strict=False)]


async def ask_until_given_up(clock: Clock, answer: httpx.Response) -> None:
    def on_poll(_request: httpx.Request) -> httpx.Response:
        clock.note_poll()
        return answer

    downloader = ResultDownloader(provider="nanobanana", allowed_hosts=["example.com"])
    async with httpx.AsyncClient(transport=httpx.MockTransport(on_poll)) as http:
        model = NanoBanana(http, base_url="https://example.com", api_key=SecretStr(KEY), downloader=downloader)
        with pytest.raises(ChargeUnknownError):
            await model.resume(TaskId("task"))
    await downloader.aclose()


async def test_the_end_of_a_task_is_noticed_late_by_a_tenth_of_its_age_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    await ask_until_given_up(clock, httpx.Response(200, json={"code": 200, "data": {"successFlag": 0}}))
    late = [
        pause / age
        for age, pause in zip(clock.polls, clock.pauses[1:], strict=False)
        if age >= FIRST_POLL_S / MOST_LATE
    ]
    assert len(late) > 20
    assert max(late) <= MOST_LATE + 1e-9
    assert min(clock.pauses) >= FIRST_POLL_S
    assert max(clock.pauses) <= LONGEST_POLL_S + 1e-9


async def test_an_outage_of_half_a_minute_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten bad answers in a row are a verdict, so they must not all fall into one hiccup."""
    clock = Clock(monkeypatch)
    await ask_until_given_up(clock, httpx.Response(502))
    assert len(clock.polls) == MAX_BAD_POLLS
    assert clock.polls[-1] > 30
