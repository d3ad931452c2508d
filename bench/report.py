"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bench.figures import (
    CRITICAL_PATH_S,
    PICTURES,
    efficiency,
    ideal_s,
    median,
    overhead_ratio,
    per_minute,
    percentile,
    spread,
)
from bench.results import Results
from bench.throughput import BARE, CONTENDERS, DENSE, VITRINE, Round


def report(results: Results) -> str:
    """All tables, each with what it means."""
    parts = [
        _machine(results),
        _one_product(results),
        _throughput(results),
        _cpu(results),
        _waits(results),
        _requests(results),
        _memory(results),
        _claims(results),
    ]
    return "\n\n".join(parts) + "\n"


def rounds_of(rounds: Sequence[Round], contender: str, products: int, concurrency: int) -> list[Round]:
    key = (contender, products, concurrency)
    return [each for each in rounds if (each.contender, each.products, each.concurrency) == key]


def sizes_of(rounds: Sequence[Round]) -> list[tuple[int, int]]:
    """Pairs of products and concurrency, as they were measured."""
    return list(dict.fromkeys((each.products, each.concurrency) for each in rounds))


def _median_of(rounds: Iterable[Round], value: Callable[[Round], float]) -> float:
    return median([value(each) for each in rounds])


def _machine(results: Results) -> str:
    loads = [each.load for each in results.rounds]
    return (
        f"{results.cores} cores, shared with everything else on the machine: load average {results.load_before:.1f} "
        f"before, {results.load_after:.1f} after, {min(loads):.1f} to {max(loads):.1f} in between (a load of "
        f"{results.cores} uses all cores, and a part of it is the benchmark's own). Medians of the repeats; "
        "contenders took turns."
    )


def _one_product(results: Results) -> str:
    rows = []
    for contender in (DENSE, *CONTENDERS):
        rounds = rounds_of(results.rounds, contender, 1, 1)
        if not rounds:
            continue
        walls = [each.wall_s for each in rounds]
        rows.append(
            (
                contender,
                f"{median(walls):.2f} s",
                f"{100 * overhead_ratio(median(walls)):.0f} %",
                _percent(spread(walls)),
            )
        )
    note = (
        f"The providers' critical path is {CRITICAL_PATH_S:.1f} s. The first row asks after its tasks every 10 ms, all "
        "others as seldom as the product does: what lies between the first row and the second is the price of asking "
        "seldom and not of any work."
    )
    return _section("One product", note, ("", "wall time", "over the critical path", "spread of repeats"), rows)


def _throughput(results: Results) -> str:
    contenders = [name for name in CONTENDERS if any(each.contender == name for each in results.rounds)]
    rows = []
    for products, concurrency in sizes_of(results.rounds):
        cells = []
        for contender in contenders:
            rounds = rounds_of(results.rounds, contender, products, concurrency)
            wall_s = _median_of(rounds, lambda each: each.wall_s)
            cells.append(f"{per_minute(products, wall_s):.0f} ({efficiency(products, concurrency, wall_s):.2f})")
        bare = _median_of(rounds_of(results.rounds, BARE, products, concurrency), lambda each: each.wall_s)
        own_rounds = rounds_of(results.rounds, VITRINE, products, concurrency)
        own = _median_of(own_rounds, lambda each: each.wall_s)
        ideal = f"{per_minute(products, ideal_s(products, concurrency)):.0f}"
        rows.append((f"{products}", f"{concurrency}", f"{len(own_rounds)}", ideal, *cells, f"{bare / own:.2f}"))
    note = (
        "Products per minute, and in brackets the efficiency: the ideal time (nothing but the providers' latencies) "
        "over the measured one. The last column is Vitrine's speed relative to the bare client's on this machine. "
        f"{_purchases(results.rounds)}"
    )
    return _section(
        "Many products", note, ("products", "at once", "repeats", "ideal", *contenders, "Vitrine / bare"), rows
    )


def _purchases(rounds: Sequence[Round]) -> str:
    """What the sandbox's invoice says of all rounds together."""
    due = PICTURES * sum(each.products for each in rounds)
    bought = sum(each.purchases for each in rounds)
    return f"Together they had {due:,} pictures to buy and were billed {bought:,}."


def _cpu(results: Results) -> str:
    rows = []
    for products, concurrency in sizes_of(results.rounds):
        if products == 1:
            continue
        for contender in CONTENDERS:
            rounds = rounds_of(results.rounds, contender, products, concurrency)
            if not rounds:
                continue
            parts: tuple[Callable[[Round], float], ...] = (
                lambda each: each.worker_cpu.loop,
                lambda each: each.worker_cpu.threads,
                lambda each: each.stack_cpu.gateway,
                lambda each: each.stack_cpu.postgres,
                lambda each: each.stack_cpu.sandbox,
            )
            times = [_median_of(rounds, part) for part in parts]
            busy = sum(times) / _median_of(rounds, lambda each: each.wall_s)
            cells = [f"{1000 * seconds / products:.1f}" for seconds in times]
            rows.append((f"{products} / {concurrency}", contender, *cells, f"{busy:.2f}"))
    header = ("products / at once", "", "engine", "pictures", "gateway", "Postgres", "sandbox", "cores in use")
    note = (
        "CPU milliseconds for each product. *Engine* is the event loop's thread; *pictures* are the worker's other "
        "threads, which decode and check every picture and do nothing else (the others check no picture, and the peers "
        "and the bare client store none). The gateway is one Python process that only the embedded stack has. Where "
        "*cores in use* comes near what the load leaves of the machine, that is the limit and not any contender."
    )
    return _section("CPU", note, header, rows)


def _waits(results: Results) -> str:
    rows = [
        (name, _ms(median(waits)), _ms(percentile(waits, 0.99)), f"{len(waits)}")
        for name, waits in (
            ("`202` to the first provider call", results.pick_up_s),
            ("commit to the `supabase` client", results.realtime_s),
        )
    ]
    note = "The pick-up contains the claim, the plan, the download of the photograph and the ledger's entry."
    return _section("Waits", note, ("", "p50", "p99", "samples"), rows)


def _requests(results: Results) -> str:
    requests = results.requests
    rows = [(kind, f"{count:.2f}") for kind, count in requests.per_product.items()]
    rows.append(("**all**", f"**{requests.total:.1f}**"))
    note = f"To Supabase for each product, with {requests.up_mb:.1f} MB up and {requests.down_mb:.1f} MB down."
    return _section("Requests", note, ("", "per product"), rows)


def _memory(results: Results) -> str:
    rows = [
        (
            f"{each.concurrency}",
            f"{each.photo_mb:.1f} MB",
            f"{each.idle_mb:.0f} MB",
            f"{each.peak_mb:.0f} MB",
            f"{each.per_product_mb:.0f} MB",
        )
        for each in results.memory
    ]
    idle = results.idle
    note = (
        "Of the worker (RSS). It sets aside at most `MEMORY_BUDGET_MB` for pictures; more products than fit wait. "
        f"Idle, with the default settings, a worker takes {100 * idle.cpu_share:.2f} % of a core and sends "
        f"{idle.requests_per_s:.2f} requests a second."
    )
    return _section("Memory and idling", note, ("at once", "photograph", "idle", "peak", "per product in flight"), rows)


def _claims(results: Results) -> str:
    rows = [
        (f"{each.queued:,}", f"{each.finished:,}", f"{each.p50_ms:.2f} ms", f"{each.p99_ms:.2f} ms", f"{each.blocks}")
        for each in results.claims
    ]
    note = (
        "Ten runs in one claim, by direct SQL. Times rise with what else the machine does; the blocks (of 8 kB) that "
        "one claim looks at do not."
    )
    return _section("Claims", note, ("queued", "finished rows kept", "p50", "p99", "blocks"), rows)


def _section(title: str, note: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(header), _row(["---"] * len(header)), *(_row(row) for row in rows)]
    return f"## {title}\n\n{note}\n\n" + "\n".join(lines)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
