"""What a product costs apart from time: CPU, requests to Supabase, memory; and what an idle worker costs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil

from bench.machine import Machine, Photo
from bench.processes import Running
from bench.relay import relay_to

SAMPLE_EVERY_S = 0.01
MB = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    per_product: Mapping[str, float]  #: to Supabase, by kind
    up_mb: float  #: per product
    down_mb: float

    @property
    def total(self) -> float:
        return sum(self.per_product.values())


async def count_requests(machine: Machine, photo: Photo, *, products: int, concurrency: int = 8) -> Requests:
    """The requests of a worker to Supabase, its claims and heartbeats included, which several products share."""
    machine.reset()
    async with relay_to(machine.supabase_url) as relay:
        public = {"supabase_url": relay.url, "supabase_public_url": machine.supabase_url}
        async with machine.worker(worker_concurrency=str(concurrency), **public):
            await asyncio.sleep(1)
            relay.requests.clear()
            relay.bytes_up = relay.bytes_down = 0
            machine.queue(products, photo)
            await machine.wait_all_done(products)
            counted = dict(relay.requests)
            up, down = relay.bytes_up, relay.bytes_down
    return Requests(
        per_product={kind: count / products for kind, count in sorted(counted.items(), key=lambda item: -item[1])},
        up_mb=up / MB / products,
        down_mb=down / MB / products,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    concurrency: int
    photo_mb: float
    idle_mb: float
    peak_mb: float

    @property
    def per_product_mb(self) -> float:
        return (self.peak_mb - self.idle_mb) / self.concurrency


async def measure_memory(machine: Machine, photo: Photo, *, concurrency: int) -> Memory:
    """Peak RSS of a worker that has `concurrency` products in hand all the time."""
    machine.reset()
    products = 2 * concurrency
    async with machine.worker(worker_concurrency=str(concurrency)) as worker:
        idle = worker.rss()
        with _peak_rss(worker) as peak:
            machine.queue(products, photo)
            await machine.wait_all_done(products)
    return Memory(
        concurrency=concurrency,
        photo_mb=photo.path.stat().st_size / MB,
        idle_mb=idle / MB,
        peak_mb=peak[0] / MB,
    )


@contextlib.contextmanager
def _peak_rss(process: Running) -> Iterator[list[int]]:
    """The highest RSS seen so far, in bytes, as the only item of a list."""
    peak, stopped = [process.rss()], threading.Event()

    def watch() -> None:
        while not stopped.wait(SAMPLE_EVERY_S):
            with contextlib.suppress(psutil.NoSuchProcess):
                peak[0] = max(peak[0], process.rss())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stopped.set()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    cpu_share: float  #: of one core
    requests_per_s: float  #: to Supabase; each is one transaction


async def measure_idle(machine: Machine, *, seconds: float) -> Idle:
    """A worker with the default settings and nothing to do."""
    machine.reset()
    async with (
        relay_to(machine.supabase_url) as relay,
        machine.worker(supabase_url=relay.url, lease_seconds="30") as worker,
    ):
        await asyncio.sleep(2)
        relay.requests.clear()
        before, started = worker.cpu().total, time.monotonic()
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - started
        return Idle(
            cpu_share=(worker.cpu().total - before) / elapsed,
            requests_per_s=relay.requests.total() / elapsed,
        )
