"""What every contender is told and what it answers: each runs in a process of its own and prints one line of JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    products: int
    concurrency: int
    sandbox_url: str
    photo: bytes = field(repr=False)
    database_url: str = field(repr=False)  #: for those with a queue of their own


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    wall_s: float  #: from the moment all products were queued to the end of the last
    cpu_s: float  #: of the contender's own process in that time


def read_task() -> Task:
    parser = argparse.ArgumentParser()
    parser.add_argument("--products", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--photo", type=Path, required=True)
    options = parser.parse_args()
    return Task(
        products=options.products,
        concurrency=options.concurrency,
        sandbox_url=os.environ["SANDBOX_URL"],
        photo=options.photo.read_bytes(),
        database_url=os.environ.get("PEER_DATABASE_URL", ""),
    )


def compete(work: Callable[[Task], Awaitable[Outcome]]) -> None:
    """The entry point of a contender's module."""
    outcome = asyncio.run(_run(work))
    print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201  the answer


async def _run(work: Callable[[Task], Awaitable[Outcome]]) -> Outcome:
    return await work(read_task())


@dataclass(slots=True)
class Stopwatch:
    """Started when the work is queued."""

    _wall_s: float = field(default_factory=time.perf_counter)
    _cpu_s: float = field(default_factory=time.process_time)

    def outcome(self) -> Outcome:
        return Outcome(wall_s=time.perf_counter() - self._wall_s, cpu_s=time.process_time() - self._cpu_s)


@dataclass(slots=True)
class Countdown:
    """Set when all products are made."""

    left: int
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def one_made(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set()
