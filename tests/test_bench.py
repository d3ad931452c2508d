"""The benchmark: its arithmetic, and that its smallest form runs from end to end. No speed is asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bench.document import BEGIN, DOCUMENT, END
from bench.figures import efficiency, ideal_s, overhead_ratio, per_minute, percentile, spread
from bench.relay import kind_of, relay_to

ROOT = Path(__file__).parent.parent
RUN_LIMIT_S = 600


def test_the_ideal_time_counts_whole_waves() -> None:
    assert [round(ideal_s(*size), 3) for size in ((1, 1), (50, 50), (51, 50), (200, 50), (1, 100))] == [
        0.7,
        0.7,
        1.4,
        2.8,
        0.7,
    ]


def test_efficiency_is_the_ideal_over_the_measured_time() -> None:
    assert efficiency(200, 50, 2.8) == pytest.approx(1)
    assert efficiency(200, 50, 5.6) == pytest.approx(0.5)


def test_overhead_is_what_exceeds_the_critical_path() -> None:
    assert overhead_ratio(0.7) == pytest.approx(0)
    assert overhead_ratio(1.05) == pytest.approx(0.5)


def test_products_per_minute() -> None:
    assert per_minute(50, 10) == pytest.approx(300)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, share) for share in (0, 0.2, 0.5, 0.99, 1)] == [1, 1, 3, 5, 5]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_share_of_all_values_is_at_most_the_percentile(values: list[float], share: float) -> None:
    within = sum(value <= percentile(values, share) for value in values)
    assert within / len(values) >= share


def test_the_spread_is_relative_to_the_median() -> None:
    assert spread([1.0, 2.0, 3.0]) == 1
    assert spread([2.0]) == 0


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/rest/v1/rpc/claim_runs_v1", "claim_runs"),
        ("POST", "/storage/v1/object/sign/plant-images/products/a.png", "sign a link"),
        ("POST", "/storage/v1/object/plant-images/products/a.png", "upload"),
        ("GET", "/storage/v1/object/plant-images/products/a.png?download=", "download"),
        ("GET", "/realtime/v1/websocket?apikey=x", "realtime"),
        ("GET", "/rest/v1/products?id=eq.1", "GET rest/v1/products"),
    ],
)
def test_requests_are_counted_by_what_they_are_about(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind


async def test_the_relay_counts_each_request_and_passes_every_byte() -> None:
    body = os.urandom(1_000_000)

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application(client_max_size=10_000_000)
    app.router.add_post("/rest/v1/rpc/echo_v1", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with relay_to(f"http://127.0.0.1:{port}") as relay, httpx.AsyncClient(trust_env=False) as http:
        for _ in range(3):  # on one connection
            answer = await http.post(f"{relay.url}/rest/v1/rpc/echo_v1", content=body)
            assert answer.content == body
    await runner.cleanup()
    assert relay.requests == {"echo": 3}
    assert min(relay.bytes_up, relay.bytes_down) > 3 * len(body)


def test_the_document_keeps_a_place_for_the_figures() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)


@pytest.mark.timeout(RUN_LIMIT_S + 60)
def test_its_smallest_form_measures_everything() -> None:
    """Without the peers, which are installed by `make bench` alone."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--smallest"], cwd=ROOT, capture_output=True, text=True, timeout=RUN_LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    titles = [line.removeprefix("## ") for line in done.stdout.splitlines() if line.startswith("## ")]
    assert titles == ["One product", "Many products", "CPU", "Waits", "Requests", "Memory and idling", "Claims"]
    assert "Together they had 80 pictures to buy and were billed 80." in done.stdout
