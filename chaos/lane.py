"""A lane: one Supabase, one sandbox and the doors before them, in which one case after the other is played."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
from psycopg.rows import dict_row

from chaos.cases import Case
from chaos.checks import Harm, Violation, violations_of
from chaos.door import Canary, Door
from chaos.history import keep_history
from chaos.ledgers import Connection, gather_ledgers
from chaos.script import Exchange, OneCue
from chaos.worker_process import WorkerProcess
from sandbox.fingerprint import of_picture
from scripts.migrate import migrate
from tests.sandbox.running import SandboxClient, SandboxProcess
from tests.shop import API_KEY, TABLES, Shop, open_shop, small_photo
from tests.stack import RunningStack, start_stack

LEASE_S = 3
POLL_S = 0.5
LATENCY = {"cutout": 0.05, "scene": 0.1}  # seconds; below the first poll, so that one poll finds each scene done
RECOVERED_WITHIN_S = 120.0  # lease, polls, pauses between attempts and one product: far more than any should take
LOOK_AGAIN_S = 0.03
SETTLE_S = 0.1  # after the end: time for a write that must not come


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    case: Case
    was_struck: bool
    recovery_s: float  #: from the fault to the end of the run
    violations: list[Violation]
    exchanges: list[Exchange] = field(repr=False)
    log: str = field(repr=False)

    def count(self, harm: Harm) -> int:
        return sum(violation.harm is harm for violation in self.violations)


@dataclass(slots=True, kw_only=True)
class Lane:
    folder: Path
    stack: RunningStack
    sandbox: SandboxClient
    shop: Shop
    connection: Connection
    http: httpx.AsyncClient
    canary: Canary
    supabase_door: Door
    providers_door: Door
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def worker_environment(self, *, name: str | None) -> dict[str, str]:
        environment = {
            "SUPABASE_URL": self.supabase_door.url,
            "SUPABASE_PUBLIC_URL": self.stack.url,  # links for the sandbox do not lead through a door
            "SUPABASE_SERVICE_ROLE_KEY": self.stack.secret_key,
            "SANDBOX_URL": self.providers_door.url,
            "ENVIRONMENT": "test",
            "API_KEY": API_KEY,
            "LEASE_SECONDS": str(LEASE_S),
            "POLL_SECONDS": str(POLL_S),
        }
        return environment | ({"WORKER_ID": name} if name else {})

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must appear in no log and no message: the key, and the mark of a signed link."""
        return (self.stack.secret_key, "?token=")

    async def play(self, case: Case) -> Outcome:
        """One product with one fault, from the upload to the checks."""
        number = next(self._numbers)
        await self._clear()
        photo = small_photo(number)
        product_id = await self.shop.upload(photo)
        log_path = self.folder / f"worker-{number}.log"
        crew = _Crew(environment=self.worker_environment(name="chaos" if case.named else None), log=log_path)
        script = OneCue(cue=case.cue, kill=crew.kill)
        self.supabase_door.script = self.providers_door.script = script
        started_at = time.monotonic()
        crew.start()
        try:
            while not await self._is_over(product_id):
                if time.monotonic() - started_at > RECOVERED_WITHIN_S:
                    break
                crew.replace_the_dead()
                await asyncio.sleep(LOOK_AGAIN_S)
            ended_at = time.monotonic()
            await asyncio.sleep(SETTLE_S)
        finally:
            crew.end()
        log = log_path.read_text(errors="replace")
        ledgers = await gather_ledgers(
            self.connection,
            self.http,
            product_id=product_id,
            photo_fingerprint=of_picture(photo),
            invoice=(await asyncio.to_thread(self.sandbox.invoice))["lines"],
            exchanges=script.log,
            log=log,
            secrets=self.secrets,
        )
        violations = violations_of(ledgers, case.allowance)
        if self.canary.visits:
            self.canary.visits = 0
            violations.append(Violation(harm=Harm.OTHER, text="a redirect was followed to a forbidden address"))
        return Outcome(
            case=case,
            was_struck=script.struck_at is not None,
            recovery_s=ended_at - (script.struck_at or started_at),
            violations=violations,
            exchanges=script.log,
            log=log,
        )

    async def _clear(self) -> None:
        await self.connection.execute(f"truncate {TABLES}, chaos.history, chaos.overwrites cascade")
        await asyncio.to_thread(self.sandbox.reset)
        await asyncio.to_thread(lambda: self.sandbox.behave(latency=LATENCY))

    async def _is_over(self, product_id: str) -> bool:
        cursor = await self.connection.execute(
            "select 1 from runs where product_id = %s and status in ('pending', 'processing')", (product_id,)
        )
        return await cursor.fetchone() is None


@dataclass(slots=True, kw_only=True)
class _Crew:
    """The worker of a case, and whoever takes its place: an orchestrator that starts a new one when one has ended."""

    environment: dict[str, str]
    log: Path
    _worker: WorkerProcess | None = None

    def start(self) -> None:
        self._worker = WorkerProcess(self.environment, self.log)

    def kill(self) -> None:
        if self._worker is not None:
            self._worker.kill()

    def replace_the_dead(self) -> None:
        if self._worker is not None and not self._worker.is_alive:
            self._worker.wait_gone()
            self.start()

    def end(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait_gone()
            self._worker = None


@asynccontextmanager
async def open_lane(folder: Path) -> AsyncIterator[Lane]:
    """Everything started anew in `folder`, and stopped at the end."""
    async with AsyncExitStack() as cleanup:
        await asyncio.to_thread(folder.mkdir, parents=True)
        stack = await asyncio.to_thread(start_stack, folder / "stack")
        cleanup.push_async_callback(asyncio.to_thread, stack.stop)
        await asyncio.to_thread(_prepare_database, stack)
        running = await asyncio.to_thread(SandboxProcess, folder / "sandbox", "--ready-made")
        cleanup.push_async_callback(asyncio.to_thread, running.stop)
        sandbox = cleanup.enter_context(SandboxClient(running.url))
        shop = await cleanup.enter_async_context(open_shop(stack, sandbox))
        connection = await psycopg.AsyncConnection.connect(stack.superuser_url, autocommit=True, row_factory=dict_row)
        cleanup.push_async_callback(connection.close)
        http = await cleanup.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=20))
        canary = Canary()
        await canary.open()
        cleanup.callback(canary.close)
        nothing = OneCue(cue=None, kill=_nobody)
        doors = [Door(url, script=nothing, canary_url=canary.url) for url in (stack.url, running.url)]
        for door in doors:
            await door.open()
            cleanup.push_async_callback(door.close)
        yield Lane(
            folder=folder,
            stack=stack,
            sandbox=sandbox,
            shop=shop,
            connection=connection,
            http=http,
            canary=canary,
            supabase_door=doors[0],
            providers_door=doors[1],
        )


def _prepare_database(stack: RunningStack) -> None:
    migrate(stack.database_url)
    keep_history(stack.superuser_url)
    with psycopg.connect(stack.superuser_url, autocommit=True) as connection:
        connection.execute("alter system set fsync = off")  # processes are killed here, never the machine
        connection.execute("select pg_reload_conf()")


def _nobody() -> None:
    pass


async def play_all(
    folder: Path, cases: Iterable[Case], *, lanes: int, tell: Callable[[Outcome], None]
) -> list[Outcome]:
    """Play the cases in several lanes at once; `tell` hears of each as it is over."""
    waiting = iter(cases)
    outcomes: list[Outcome] = []

    async def work_off(number: int) -> None:
        async with open_lane(folder / f"lane-{number}") as lane:
            for case in waiting:  # shared: each lane takes the next
                outcome = await lane.play(case)
                tell(outcome)
                outcomes.append(outcome)

    async with asyncio.TaskGroup() as group:
        for number in range(lanes):
            group.create_task(work_off(number), name=f"lane-{number}")
    return outcomes
