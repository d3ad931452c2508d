"""Many products at many concurrencies, by every contender in turn, so that the machine's noise meets all alike."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.machine import CpuSeconds, Machine, Photo, load_average
from bench.processes import CpuTimes

VITRINE = "Vitrine"
BARE = "bare client"
DENSE = "bare client, dense polls"
SAME_STACK = "FastAPI background task"
PGQUEUER = "PgQueuer"
PROCRASTINATE = "Procrastinate"
CONTENDERS = (BARE, PGQUEUER, PROCRASTINATE, SAME_STACK, VITRINE)
PEERS = {PGQUEUER: "bench.peers.pgqueuer_worker", PROCRASTINATE: "bench.peers.procrastinate_worker"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One contender's one go."""

    contender: str
    products: int
    concurrency: int
    wall_s: float
    worker_cpu: CpuTimes  #: of the contender itself
    stack_cpu: CpuSeconds
    purchases: int  #: pictures that the sandbox has billed
    load: float


async def run_round(
    machine: Machine, contender: str, products: int, concurrency: int, photo: Photo, peer_python: Path | None
) -> Round | None:
    """None: the contender is not installed."""
    machine.reset()
    if contender == VITRINE:
        return await _run_vitrine(machine, products, concurrency, photo)
    python, more = sys.executable, {}
    match contender:
        case "bare client":
            module = "bench.bare"
        case "bare client, dense polls":
            module, more = "bench.bare", {"bench_dense_polls": "1"}
        case "FastAPI background task":
            module = "bench.naive"
        case _:
            module = PEERS[contender]
            if peer_python is None:
                return None
            python = str(peer_python)
    before = machine.cpu()
    outcome = await machine.contest(module, products, concurrency, photo, python=python, **more)
    return Round(
        contender=contender,
        products=products,
        concurrency=concurrency,
        wall_s=outcome.wall_s,
        worker_cpu=CpuTimes(loop=outcome.cpu_s, threads=0.0),
        stack_cpu=machine.cpu() - before,
        purchases=machine.purchases(),
        load=load_average(),
    )


async def _run_vitrine(machine: Machine, products: int, concurrency: int, photo: Photo) -> Round:
    async with machine.worker(worker_concurrency=str(concurrency)) as worker:
        before, worker_before = machine.cpu(), worker.cpu()
        queued_at = machine.queue(products, photo)
        ended_at = await machine.wait_all_done(products)
        return Round(
            contender=VITRINE,
            products=products,
            concurrency=concurrency,
            wall_s=ended_at - queued_at,
            worker_cpu=worker.cpu() - worker_before,
            stack_cpu=machine.cpu() - before,
            purchases=machine.purchases(),
            load=load_average(),
        )


async def run_rounds(
    machine: Machine,
    photo: Photo,
    products: int,
    concurrency: int,
    *,
    repeats: int,
    contenders: Sequence[str],
    peer_python: Path | None,
) -> list[Round]:
    rounds = []
    for _ in range(repeats):
        for contender in contenders:
            made = await run_round(machine, contender, products, concurrency, photo, peer_python)
            if made is not None:
                rounds.append(made)
                _tell(made)
    return rounds


def _tell(done: Round) -> None:
    print(  # noqa: T201  progress
        f"  {done.products} products, {done.concurrency} at once, {done.contender}: {done.wall_s:.2f} s "
        f"(load {done.load:.1f})",
        file=sys.stderr,
        flush=True,
    )
