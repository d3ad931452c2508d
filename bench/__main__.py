"""`make bench`: one run of everything, as Markdown on stdout. `--write` puts it into `docs/performance.md`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.costs import count_requests, measure_idle, measure_memory
from bench.document import write_document
from bench.machine import Photo, load_average, make_photo, start_machine
from bench.processes import ROOT
from bench.queue_length import measure_claims
from bench.report import report
from bench.results import Results
from bench.throughput import CONTENDERS, DENSE, run_rounds
from bench.waits import pick_up_s, realtime_s

PHOTO = ROOT / "samples" / "ring.jpg"
PEER_PYTHON = ROOT / ".vitrine" / "bench" / "bin" / "python"
LARGE = 200  # products
LARGE_PHOTO_MB = 9.9  # just below what the API takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured."""

    sizes: Sequence[tuple[int, int]]  #: products, concurrency
    repeats: int
    large_repeats: int  #: of sizes from LARGE products on, which outlast most of a machine's noise by themselves
    samples: int  #: of each wait
    counted: int  #: products whose requests are counted
    in_hand: Sequence[int]  #: with large photographs
    idle_s: float
    queued: Sequence[int]
    finished: int


SMALLEST = Scale(
    sizes=((1, 1), (4, 2)),
    repeats=1,
    large_repeats=1,
    samples=2,
    counted=2,
    in_hand=(1,),
    idle_s=1,
    queued=(100, 200),
    finished=200,
)
USUAL = Scale(
    sizes=((1, 1), (50, 50), (200, 50), (200, 100), (200, 200)),
    repeats=3,
    large_repeats=1,
    samples=100,
    counted=50,
    in_hand=(1, 8, 16),
    idle_s=60,
    queued=(100, 1_000, 10_000, 100_000),
    finished=100_000,
)
FULL = Scale(
    sizes=(*USUAL.sizes, (50, 1), (1000, 50), (1000, 100), (1000, 200)),
    repeats=3,
    large_repeats=3,
    samples=300,
    counted=50,
    in_hand=(1, 8, 16, 32),
    idle_s=60,
    queued=(100, 1_000, 10_000, 100_000),
    finished=1_000_000,
)


async def measure(scale: Scale, *, peer_python: Path | None) -> Results:
    load_before = load_average()
    photo = Photo.at(PHOTO)
    with _temporary_folder() as folder:
        async with start_machine(folder) as machine:
            await machine.upload(photo)
            _tell("throughput")
            rounds = await run_rounds(
                machine, photo, 1, 1, repeats=scale.repeats, contenders=(DENSE,), peer_python=None
            )
            for products, concurrency in scale.sizes:
                rounds += await run_rounds(
                    machine,
                    photo,
                    products,
                    concurrency,
                    repeats=scale.large_repeats if products >= LARGE else scale.repeats,
                    contenders=CONTENDERS,
                    peer_python=peer_python,
                )
            _tell("waits")
            picked_up_s = await pick_up_s(machine, photo, times=scale.samples)
            told_s = await realtime_s(machine, times=scale.samples)
            _tell("requests")
            requests = await count_requests(machine, photo, products=scale.counted)
            _tell("idle worker")
            idle = await measure_idle(machine, seconds=scale.idle_s)
            _tell("memory")
            large = make_photo(folder / "large.jpg", megabytes=LARGE_PHOTO_MB)
            await machine.upload(large)
            memory = [await measure_memory(machine, large, concurrency=number) for number in scale.in_hand]
        _tell("claims")
        claims = await asyncio.to_thread(
            measure_claims, folder, queued=scale.queued, finished=scale.finished, times=scale.samples
        )
    return Results(
        cores=os.cpu_count() or 1,
        load_before=load_before,
        load_after=load_average(),
        rounds=rounds,
        pick_up_s=picked_up_s,
        realtime_s=told_s,
        requests=requests,
        memory=memory,
        idle=idle,
        claims=claims,
    )


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vitrine-bench-") as path:
        folder = Path(path)
        folder.chmod(0o755)  # Postgres runs as an account of its own where we are root
        yield folder


def _tell(what: str) -> None:
    print(f"Measuring: {what}", file=sys.stderr, flush=True)  # noqa: T201  progress


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure what Vitrine costs.")
    parser.add_argument("--smallest", action="store_true", help="only see that it runs, without the peers")
    parser.add_argument("--full", action="store_true", help="1,000 products and a million finished rows as well")
    parser.add_argument("--write", action="store_true", help="put tables and plot into docs/")
    options = parser.parse_args()
    scale = SMALLEST if options.smallest else FULL if options.full else USUAL
    peer_python = PEER_PYTHON if PEER_PYTHON.exists() and not options.smallest else None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped
    results = asyncio.run(measure(scale, peer_python=peer_python))
    tables = report(results)
    print(tables)  # noqa: T201  the result
    if options.write:
        write_document(tables, results)


if __name__ == "__main__":
    main()
