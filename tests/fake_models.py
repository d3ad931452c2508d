"""A typed stand-in for a vendor behind one capability, and what surrounds it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from domain import CallProgress, ImageAnswer, ImageRequest, Picture, RecoversBy, TaskId
from errors import ProviderError, RateLimitError
from tests.providers.fakes import png

PICTURE = Picture(content=png(alpha=0), media_type="image/png", width=96, height=64, has_alpha=True)


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass(kw_only=True, eq=False)
class FakeModel:
    """Answers after `latency_s`; `verdict`, asked when a request arrives, gives the error to answer with, if any."""

    provider: str = "fake"
    model: str = "fake-1"
    recovers_by: RecoversBy = RecoversBy.NOTHING
    deadline_s: float = 60.0
    latency_s: float = 0.1
    verdict: Callable[[], ProviderError | None] = lambda: None
    arrivals: list[float] = field(default_factory=list)  #: when requests came, refused ones too
    in_flight: int = 0
    most_in_flight: int = 0
    refusals: int = 0

    def price_micros(self, request: ImageRequest) -> int:
        return 1000

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        if request.source is not None:
            await request.source.read()
        await progress.sending()
        self.arrivals.append(now())
        error = self.verdict()
        if error is not None:
            self.refusals += 1
            raise error
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.recovers_by is RecoversBy.TASK_ID:
                await progress.accepted(TaskId(f"task-{len(self.arrivals)}"))
            await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        return ImageAnswer(picture=PICTURE, cost_micros=None)

    async def resume(self, task_id: TaskId) -> ImageAnswer:
        return ImageAnswer(picture=PICTURE, cost_micros=None)


@dataclass(kw_only=True)
class Quota:
    """At most `calls` in any `seconds`; beyond it a 429 that says how long to wait, as vendors do."""

    calls: int
    seconds: float
    provider: str = "fake"
    clock: Callable[[], float] = now
    taken: deque[float] = field(default_factory=deque)

    def __call__(self) -> RateLimitError | None:
        arrived_at = self.clock()
        while self.taken and self.taken[0] <= arrived_at - self.seconds:
            self.taken.popleft()
        if len(self.taken) < self.calls:
            self.taken.append(arrived_at)
            return None
        wait_s = self.taken[0] + self.seconds - arrived_at
        return RateLimitError("Too many requests.", provider=self.provider, retry_after=wait_s)
