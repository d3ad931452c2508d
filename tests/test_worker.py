"""The worker as a process: killed, stopped, cut off from Supabase, flooded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ai_clients import Models
from database import Database
from domain import ClaimedRun, RunId
from pipeline import Pipeline
from scripts.migrate import migrate
from tests.sandbox.running import SandboxClient
from tests.shop import API_KEY, Shop, open_shop, small_photo
from tests.stack import start_stack
from worker import Worker

ROOT = Path(__file__).parent.parent
FINISH_TIMEOUT_S = 60


class WorkerProcess:
    """`python worker.py` with a shop's settings."""

    def __init__(self, shop: Shop, *arguments: str, **changes: str) -> None:
        settings = shop.settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPABASE")} | {
            "SUPABASE_URL": settings.base_url,
            "SUPABASE_SERVICE_ROLE_KEY": shop.stack.secret_key,
            "SANDBOX_URL": str(settings.sandbox_url),
            "ENVIRONMENT": "test",
            "API_KEY": API_KEY,
            "LEASE_SECONDS": "3",
            "POLL_SECONDS": "1",
        }
        self.log: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "worker.py", *arguments],
            cwd=ROOT,
            env=environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_started(self) -> WorkerProcess:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(json.loads(line))
            if self.log[-1]["event"] == "worker.started":
                return self
        raise RuntimeError(f"the worker ended: {self.log}")

    def kill(self) -> None:
        self.process.kill()
        self._collect()

    def stop(self) -> int:
        """Stop it as an orchestrator does; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._collect()

    def _collect(self) -> int:
        out, _ = self.process.communicate(timeout=30)
        self.log += [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return self.process.returncode


@pytest.fixture
def start_worker(shop: Shop) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start(*arguments: str, of: Shop = shop, **changes: str) -> WorkerProcess:
        started.append(WorkerProcess(of, *arguments, **changes))
        return started[-1].wait_started()

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


async def wait_until(condition: Callable[[], object], timeout_s: float = FINISH_TIMEOUT_S) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen"
        await asyncio.sleep(0.05)


def all_final(shop: Shop) -> bool:
    return not shop.rows("select 1 from runs where status in ('pending', 'processing')")


async def test_a_run_whose_worker_is_killed_is_finished_by_another(
    shop: Shop, start_worker: Callable[..., WorkerProcess]
) -> None:
    """JW-63: after its lease, without paying again for what is finished."""
    shop.sandbox.behave(latency={"scene": 1.5})
    product_id = await shop.upload()
    first = start_worker()
    await wait_until(lambda: shop.rows("select 1 from calls where task_id is not null having count(*) = 4"))
    first.kill()
    start_worker()
    await wait_until(lambda: all_final(shop))
    product = await shop.product(product_id)
    assert (product["status"], len(product["generated_image_urls"])) == ("completed", 4)
    assert shop.bought() == {"nanobanana": 4, "reve": 1}
    assert shop.rows("select attempts from runs") == [{"attempts": 2}]


async def test_a_worker_with_a_name_takes_its_runs_back_at_once(
    shop: Shop, start_worker: Callable[..., WorkerProcess]
) -> None:
    shop.sandbox.behave(latency={"scene": 1})
    await shop.upload()
    first = start_worker(WORKER_ID="one", LEASE_SECONDS="600")
    await wait_until(lambda: shop.rows("select 1 from calls where task_id is not null having count(*) = 4"))
    first.kill()
    start_worker(WORKER_ID="one", LEASE_SECONDS="600")
    await wait_until(lambda: all_final(shop), timeout_s=30)
    assert shop.bought() == {"nanobanana": 4, "reve": 1}


async def test_killed_in_the_middle_of_a_synchronous_call_only_that_call_is_repeated(
    shop: Shop, start_worker: Callable[..., WorkerProcess]
) -> None:
    """The one case in which money can be lost, since nobody can ask for the answer again: counted as unknown."""
    shop.sandbox.behave(latency={"cutout": 2})
    await shop.upload()
    first = start_worker(WORKER_ID="one")
    await wait_until(lambda: shop.bought().get("reve"))
    first.kill()
    start_worker(WORKER_ID="one")
    await wait_until(lambda: all_final(shop))
    assert shop.bought() == {"nanobanana": 4, "reve": 2}
    states = shop.rows("select state from calls where step_name = 'cutout' order by created_at")
    assert [row["state"] for row in states] == ["unknown", "done"]


async def test_a_stop_lets_the_paid_call_finish_and_hands_the_run_back(
    shop: Shop, start_worker: Callable[..., WorkerProcess]
) -> None:
    shop.sandbox.behave(latency={"cutout": 1.5})
    product_id = await shop.upload()
    worker = start_worker()
    await wait_until(lambda: shop.bought().get("reve"))
    assert worker.stop() == 0
    assert [entry["outcome"] for entry in worker.log if entry["event"] == "run.ended"] == ["handed_back"]
    assert shop.rows("select status, attempts from runs") == [{"status": "pending", "attempts": 0}]
    assert shop.rows("select state from steps where name = 'cutout'") == [{"state": "done"}]
    product = await shop.processed(product_id)
    assert (product["status"], shop.bought()) == ("completed", {"nanobanana": 4, "reve": 1})


async def test_once_works_off_what_is_due_and_exits(shop: Shop, start_worker: Callable[..., WorkerProcess]) -> None:
    """PS-33: for cron and serverless."""
    ids = [await shop.upload(small_photo(number)) for number in range(3)]
    worker = start_worker("--once")
    assert worker.process.wait(timeout=FINISH_TIMEOUT_S) == 0
    assert [(await shop.product(product_id))["status"] for product_id in ids] == ["completed"] * 3
    assert worker.process.stdout is not None
    worker.process.stdout.close()


async def test_the_bell_wakes_a_sleeping_worker(shop: Shop, start_worker: Callable[..., WorkerProcess]) -> None:
    """With a poll every ten minutes only the bell can have been heard."""
    start_worker(POLL_SECONDS="600")
    await asyncio.sleep(2)  # past its first look, listening
    await shop.upload()
    await wait_until(lambda: all_final(shop), timeout_s=20)


async def test_a_ring_that_finds_nothing_is_looked_into_once_more(shop: Shop) -> None:
    """It can arrive before what it announces can be seen."""

    class Empty(Database):
        looks = 0

        async def claim_runs(self, *_: Any, **__: Any) -> list[ClaimedRun]:
            self.looks += 1
            return []

        async def heartbeat(self, *_: Any, **__: Any) -> set[RunId]:
            return set()

    empty, bell, stop = Empty.__new__(Empty), asyncio.Event(), asyncio.Event()
    settings = shop.settings.model_copy(update={"poll_seconds": 600})
    models = Models(by_capability={}, gates={})
    pipeline = Pipeline.__new__(Pipeline)
    worker = Worker(worker_id="w", database=empty, pipeline=pipeline, models=models, settings=settings)
    bell.set()
    working = asyncio.create_task(worker.work(bell=bell, stop=stop, once=False))
    await wait_until(lambda: empty.looks == 2, timeout_s=5)
    await asyncio.sleep(0.5)
    stop.set()
    await working
    assert empty.looks == 2


async def test_two_workers_share_the_work_and_buy_nothing_twice(
    shop: Shop, start_worker: Callable[..., WorkerProcess]
) -> None:
    for number in range(12):
        await shop.upload(small_photo(number))
    for _ in range(2):
        start_worker(WORKER_CONCURRENCY="2")
    await wait_until(lambda: all_final(shop))
    assert {row["status"] for row in shop.rows("select status from products")} == {"completed"}
    assert shop.bought() == {"nanobanana": 48, "reve": 12}
    assert len(shop.rows("select distinct locked_by from runs")) == 2


async def test_a_stopped_worker_that_wakes_up_late_changes_nothing(
    shop: Shop, start_worker: Callable[..., WorkerProcess]
) -> None:
    """Its lease ran out and another has taken over: no zombie write lands."""
    shop.sandbox.behave(latency={"scene": 1})
    product_id = await shop.upload()
    sleeper = start_worker()
    await wait_until(lambda: shop.rows("select 1 from calls where task_id is not null having count(*) = 4"))
    sleeper.process.send_signal(signal.SIGSTOP)
    start_worker()
    await wait_until(lambda: all_final(shop))
    before = shop.rows("select * from products") + shop.rows("select * from steps order by name")
    sleeper.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(2.5)
    assert shop.rows("select * from products") + shop.rows("select * from steps order by name") == before
    assert sleeper.stop() == 0
    assert [entry["outcome"] for entry in sleeper.log if entry["event"] == "run.ended"] == ["lease_lost"]
    assert (await shop.product(product_id))["status"] == "completed"
    assert shop.bought() == {"nanobanana": 4, "reve": 1}


async def test_a_supabase_that_goes_away_and_comes_back_costs_nothing(
    tmp_path: Path, shop_sandbox: SandboxClient, start_worker: Callable[..., WorkerProcess]
) -> None:
    """Killed under load with calls in flight; the same worker process goes on when it is back."""
    shop_sandbox.reset()
    shop_sandbox.behave(latency={"cutout": 1, "scene": 2})
    stack = start_stack(tmp_path / "stack")
    migrate(stack.database_url)
    try:
        async with open_shop(stack, shop_sandbox) as shop:
            for number in range(6):
                await shop.upload(small_photo(number))
            worker = start_worker(of=shop, WORKER_CONCURRENCY="4")
            await wait_until(lambda: shop.rows("select 1 from calls where task_id is not null having count(*) >= 4"))
            stack.kill()
            await asyncio.sleep(4)  # longer than a lease
            stack = start_stack(tmp_path / "stack", port=None)
            await wait_until(lambda: all_final(shop), timeout_s=90)
            assert {row["status"] for row in shop.rows("select status from products")} == {"completed"}
            assert shop.bought() == {"nanobanana": 24, "reve": 6}
            assert worker.stop() == 0
    finally:
        stack.stop()


async def test_an_idle_worker_is_cool(shop: Shop, start_worker: Callable[..., WorkerProcess]) -> None:
    """No hot loop: what it uses in three idle seconds is a small part of a core."""
    worker = start_worker()
    await asyncio.sleep(2)
    process = psutil.Process(worker.process.pid)
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(3)
    assert sum(process.cpu_times()[:2]) - before < 0.3


def test_a_worker_without_its_settings_says_which_and_exits() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SUPABASE")}
    result = subprocess.run(
        [sys.executable, "worker.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.strip() == (
        "Vitrine's worker cannot start: SUPABASE_URL is missing; SUPABASE_SERVICE_ROLE_KEY is missing"
    )
