"""The long run: products arriving at random, several workers, and a disaster every few seconds, all from one seed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import psycopg
from psycopg.rows import dict_row

from chaos.checks import Allowance, Harm, Violation, violations_of
from chaos.faults import Fault
from chaos.lane import LEASE_S, Lane
from chaos.ledgers import gather_ledgers
from chaos.script import Exchange
from chaos.worker_process import WorkerProcess
from sandbox.fingerprint import of_picture
from tests.shop import small_photo
from tests.stack import start_stack

WORKERS = 3
ARRIVALS_PER_S = 0.5  # on two cores; more would measure the machine
DISASTERS_PER_S = 0.25
BROWN_OUT_S = 3.0
SPOILED_SHARE = 0.7  # of the requests during a brown-out
PROVIDER_FAULTS = (Fault.UNAVAILABLE, Fault.RATE_LIMITED, Fault.ERROR, Fault.ERROR_AFTER, Fault.LOST, Fault.RESET)
SUPABASE_FAULTS = (Fault.UNAVAILABLE, Fault.ERROR, Fault.LOST, Fault.RESET, Fault.CUT, Fault.REPLAYED)
LATENCY = {"cutout": 0.3, "scene": 0.6}  # seconds: long enough to be hit in the middle
LOOK_S = 0.3
OVER_WITHIN_S = 300.0  # after the last disaster
NEVER = float("inf")


@dataclass(slots=True, kw_only=True)
class Weather:
    """A script that spoils requests while a brown-out lasts."""

    chance: random.Random
    log: list[Exchange] = field(default_factory=list)
    bad_until: dict[str, float] = field(default_factory=dict)  #: "provider" or "supabase" -> monotonic
    _counts: Counter[str] = field(default_factory=Counter)

    def open_exchange(self, kind: str, path: str, fields: dict[str, Any]) -> Exchange:
        self._counts[kind] += 1
        exchange = Exchange(kind=kind, number=self._counts[kind], path=path, fields=fields)
        side = "supabase" if path.startswith(("/rest", "/storage")) else "provider"
        is_bad = time.monotonic() < self.bad_until.get(side, 0)
        if is_bad and not path.startswith("/realtime") and self.chance.random() < SPOILED_SHARE:
            exchange.deed = self.chance.choice(SUPABASE_FAULTS if side == "supabase" else PROVIDER_FAULTS)
        self.log.append(exchange)
        return exchange

    def kill_worker(self) -> None:
        raise AssertionError("the weather kills nobody")


@dataclass(slots=True, kw_only=True)
class _Accepted:
    """A product that was answered with 202."""

    product_id: str
    fingerprint: str
    at: float  #: monotonic
    over_at: float = NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRunReport:
    faults: int
    disasters: Counter[str]
    statuses: Counter[str]
    failures: Counter[str]  #: error codes of the runs that failed
    violations: list[tuple[str, Violation]]  #: with the product's id
    slowest_s: float  #: from the 202 to the end
    extra_purchases: int  #: excused by a loss
    peak_memory_mb: float  #: of any worker, resident

    def count(self, harm: Harm) -> int:
        return sum(violation.harm is harm for _, violation in self.violations)


class LongRun:
    def __init__(self, lane: Lane, *, seed: int, duration_s: float) -> None:
        self._lane = lane
        self._chance = random.Random(seed)  # noqa: S311  the same disasters for the same seed
        self._duration_s = duration_s
        self._weather = Weather(chance=self._chance)
        self._accepted: list[_Accepted] = []
        self._disasters: Counter[str] = Counter()
        self._disaster_times: list[float] = []
        self._workers: list[WorkerProcess | None] = [None] * WORKERS
        self._paused: set[int] = set()
        self._peak_memory = 0

    async def run(self) -> LongRunReport:
        await asyncio.to_thread(self._lane.sandbox.reset)
        await asyncio.to_thread(lambda: self._lane.sandbox.behave(latency=LATENCY))
        self._lane.supabase_door.script = self._lane.providers_door.script = self._weather
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch())
                async with asyncio.TaskGroup() as storm:
                    storm.create_task(self._arrive())
                    storm.create_task(self._strike())
                await self._wait_for_the_end()
                watch.cancel()
            return await self._report()
        finally:
            for worker in self._workers:
                if worker is not None:
                    worker.kill()
                    worker.wait_gone()

    # -- what goes on

    async def _arrive(self) -> None:
        ends_at = time.monotonic() + self._duration_s
        number = 0
        while time.monotonic() < ends_at:
            await asyncio.sleep(self._chance.expovariate(ARRIVALS_PER_S))
            number += 1
            photo = small_photo(number)
            answer = await self._post(photo, key=f"product-{number}")
            product_id = answer.json()["product_id"]
            self._accepted.append(_Accepted(product_id=product_id, fingerprint=of_picture(photo), at=time.monotonic()))

    async def _post(self, photo: bytes, *, key: str) -> httpx.Response:
        """The 202, after as many tries as the database's restarts make necessary: one key, so one product."""
        while True:
            answer = await self._lane.shop.api.post(
                "/process", files={"file": ("ring.jpg", photo)}, headers={"Idempotency-Key": key}
            )
            if answer.status_code == httpx.codes.ACCEPTED:
                return answer
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                raise RuntimeError(f"an upload was answered {answer.status_code}: {answer.text}")
            await asyncio.sleep(0.5)

    async def _strike(self) -> None:
        disasters: dict[Callable[[], Awaitable[None]], int] = {
            self._kill_a_worker: 4,
            self._pause_a_worker: 2,
            self._brown_out_of_provider: 2,
            self._brown_out_of_supabase: 2,
            self._restart_the_database: 1,
        }
        ends_at = time.monotonic() + self._duration_s
        while time.monotonic() < ends_at:
            await asyncio.sleep(self._chance.expovariate(DISASTERS_PER_S))
            [disaster] = self._chance.choices(list(disasters), weights=list(disasters.values()))
            self._disasters[disaster.__name__.strip("_").replace("_", " ")] += 1
            self._disaster_times.append(time.monotonic())
            await disaster()
            self._disaster_times.append(time.monotonic())

    async def _kill_a_worker(self) -> None:
        worker = self._workers[self._chance.randrange(WORKERS)]
        if worker is not None:
            worker.kill()

    async def _pause_a_worker(self) -> None:
        """For longer than its lease, so that another takes over, and it wakes up as a zombie."""
        place = self._chance.randrange(WORKERS)
        worker = self._workers[place]
        if worker is None or not worker.is_alive:
            return
        self._paused.add(place)
        worker.pause()
        await asyncio.sleep(2 * LEASE_S)
        worker.go_on()
        self._paused.discard(place)

    async def _brown_out_of_provider(self) -> None:
        self._weather.bad_until["provider"] = time.monotonic() + BROWN_OUT_S

    async def _brown_out_of_supabase(self) -> None:
        self._weather.bad_until["supabase"] = time.monotonic() + BROWN_OUT_S

    async def _restart_the_database(self) -> None:
        """`kill -9` of Postgres and of the gateway before it, then up again on the same ports."""
        stack = self._lane.stack
        postmaster = int((stack.data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        await asyncio.to_thread(stack.kill)
        await asyncio.sleep(self._chance.uniform(0.5, 2.0))
        self._lane.stack = await asyncio.to_thread(start_stack, stack.data_dir, port=None)

    async def _watch(self) -> None:
        """An orchestrator: starts a worker where one is missing; also notes which products are over."""
        while True:
            for place, worker in enumerate(self._workers):
                if worker is None or not worker.is_alive:
                    if worker is not None:
                        worker.wait_gone()
                    # One without a name: its runs come back by their lease alone.
                    name = f"chaos-{place}" if place else None
                    log = self._lane.folder / f"long-run-{place}.log"
                    self._workers[place] = WorkerProcess(self._lane.worker_environment(name=name), log)
                elif place not in self._paused:
                    with contextlib.suppress(psutil.Error):
                        self._peak_memory = max(self._peak_memory, psutil.Process(worker.pid).memory_info().rss)
            with contextlib.suppress(psycopg.Error, OSError):  # the database is being restarted
                await self._note_ends()
            await asyncio.sleep(LOOK_S)

    async def _note_ends(self) -> None:
        if not any(product.over_at == NEVER for product in self._accepted):
            return
        async with await psycopg.AsyncConnection.connect(self._lane.stack.superuser_url) as connection:
            cursor = await connection.execute("select product_id::text from runs where completed_at is not null")
            over = {product_id for (product_id,) in await cursor.fetchall()}
        for product in self._accepted:
            if product.over_at == NEVER and product.product_id in over:
                product.over_at = time.monotonic()

    async def _wait_for_the_end(self) -> None:
        ends_at = time.monotonic() + OVER_WITHIN_S
        while time.monotonic() < ends_at and any(each.over_at == NEVER for each in self._accepted):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(2 * LOOK_S)

    # -- the books

    async def _report(self) -> LongRunReport:
        lane = self._lane
        invoice = (await asyncio.to_thread(lane.sandbox.invoice))["lines"]
        log = "".join(path.read_text(errors="replace") for path in lane.folder.glob("long-run-*.log"))
        violations: list[tuple[str, Violation]] = []
        statuses: Counter[str] = Counter()
        failures: Counter[str] = Counter()
        extra = 0
        connection = await psycopg.AsyncConnection.connect(
            lane.stack.superuser_url, autocommit=True, row_factory=dict_row
        )
        async with connection:
            for accepted in self._accepted:
                ledgers = await gather_ledgers(
                    connection,
                    lane.http,
                    product_id=accepted.product_id,
                    photo_fingerprint=accepted.fingerprint,
                    invoice=invoice,
                    exchanges=self._weather.log,
                    log=log,
                    secrets=lane.secrets,
                )
                losses = sum(accepted.at <= at <= accepted.over_at for at in self._disaster_times)
                allowance = Allowance(worker_losses=losses, may_fall_short=True)
                found = violations_of(ledgers, allowance)
                violations += [(accepted.product_id, violation) for violation in found]
                status = ledgers.product["status"]
                statuses["partial" if status == "completed" and not ledgers.is_whole else status] += 1
                if status == "failed":
                    failures[ledgers.run["error_code"]] += 1
                extra += max(0, len(ledgers.purchases) - len({purchase.step for purchase in ledgers.purchases}))
        return LongRunReport(
            faults=self._disasters.total() + sum(exchange.deed is not None for exchange in self._weather.log),
            disasters=self._disasters,
            statuses=statuses,
            failures=failures,
            violations=violations,
            slowest_s=max((min(each.over_at, time.monotonic()) - each.at for each in self._accepted), default=0.0),
            extra_purchases=extra,
            peak_memory_mb=self._peak_memory / 1e6,
        )
