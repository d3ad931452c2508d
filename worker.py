"""The worker: `python worker.py` claims runs for as long as it lives, `python worker.py --once` until none is due
or a provider is paused.

It is rung by the database and polls besides. SIGTERM stops it cleanly: nothing new is claimed or begun, synchronous
calls that are paid for finish and are stored, the rest is handed back with its checkpoints.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from ai_clients import Models, open_models
from bell import listening
from byte_budget import ByteBudget
from config import Settings, load_settings
from database import Database
from domain import ClaimedRun, RunId
from errors import AppError, BudgetExceededError, ConfigError, LeaseLostError, RunCancelledError, StoreUnavailableError
from logging_config import configure_logging, log_context
from maintenance import keep_tidy, tidy_up
from packs import load_pack
from pipeline import DeferredError, HaltedError, Pipeline, RunFailedError
from provider_gate import Intake
from storage import ObjectStore
from supabase_client import connect_supabase
from transport import build_http_client

log = logging.getLogger("worker")

PATIENCE_S = 600.0  # a paid picture is held this long for a Supabase that does not answer
LOOK_AGAIN_S = 0.2  # after a ring that found nothing: it may come before what it announces can be seen
HEARTBEATS_PER_LEASE = 3
CONNECTIONS_PER_RUN = 6  # four scenes, and as many again that write to Supabase, rarely all at once


@dataclass(slots=True, kw_only=True, eq=False)
class _RunInHand:
    run: ClaimedRun
    halt: asyncio.Event = field(default_factory=asyncio.Event)


class Worker:
    """Claims runs up to its free places and keeps their leases alive."""

    def __init__(
        self, *, worker_id: str, database: Database, pipeline: Pipeline, models: Models, settings: Settings
    ) -> None:
        self._id = worker_id
        self._database = database
        self._pipeline = pipeline
        self._models = models
        self._settings = settings
        self._in_hand: dict[RunId, _RunInHand] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._place_free = asyncio.Event()
        self._scout: RunId | None = None  # the run that shows whether a paused provider is back
        self._cut_off_at = -float("inf")  # when Supabase last did not answer us, monotonic

    async def work(self, *, bell: asyncio.Event, stop: asyncio.Event, once: bool) -> None:
        """Claim and process until `stop` is set; with `once`, until nothing is due and nothing in hand."""
        heartbeat = asyncio.create_task(self._keep_leases(), name="heartbeat")
        try:
            while not stop.is_set():
                rung = bell.is_set()
                bell.clear()
                self._place_free.clear()
                claimed = await self._claim()
                if not claimed:
                    if once and not self._in_hand:
                        return
                    pause_s = LOOK_AGAIN_S if rung else self._settings.poll_seconds
                    await _first_of(bell.wait(), stop.wait(), self._place_free.wait(), timeout_s=pause_s)
        finally:
            await self._drain()
            heartbeat.cancel()
            await asyncio.gather(heartbeat, return_exceptions=True)

    # -- claiming

    async def _claim(self) -> int:
        """How many runs were taken in hand."""
        intake = self._models.intake
        places = self._free_places(intake)
        if places == 0:
            return 0
        # After an outage that hit us, others may be alive and about to renew: leave their expired leases a while.
        take_expired = time.monotonic() - self._cut_off_at > self._settings.lease_seconds
        try:
            runs = await self._database.claim_runs(
                self._id,
                places,
                lease_s=self._settings.lease_seconds,
                take_expired=take_expired,
                holding=list(self._in_hand),
            )
        except StoreUnavailableError as error:
            self._note_outage(error)
            return 0
        if runs and intake is Intake.ONE:
            self._scout = runs[0].run_id
        for run in runs:
            in_hand = _RunInHand(run=run)
            self._in_hand[run.run_id] = in_hand
            task = asyncio.create_task(self._process(in_hand), name=f"run-{run.run_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(runs)

    def _free_places(self, intake: Intake) -> int:
        """While a provider is paused runs stay in the queue, but for one at a time that shows whether it is back."""
        free = self._settings.worker_concurrency - len(self._in_hand)
        match intake:
            case Intake.FREELY:
                return free
            case Intake.ONE:
                return 0 if self._scout in self._in_hand else min(free, 1)
            case Intake.NONE:
                return 0

    async def _keep_leases(self) -> None:
        """Renew all leases, several times in each lease's life; halt the runs that were lost."""
        while True:
            in_hand = list(self._in_hand.values())
            try:
                held = await self._database.heartbeat(
                    self._id,
                    self._settings.worker_concurrency,
                    lease_s=self._settings.lease_seconds,
                    runs=[item.run for item in in_hand],
                )
            except Exception as error:  # the beat must go on, whatever one of them met
                self._note_outage(error)
            else:
                for item in in_hand:
                    if item.run.run_id not in held and item.run.run_id in self._in_hand:
                        item.halt.set()
            await asyncio.sleep(self._settings.lease_seconds / HEARTBEATS_PER_LEASE)

    def _note_outage(self, error: Exception) -> None:
        self._cut_off_at = time.monotonic()
        log.warning("worker.supabase_does_not_answer", extra={"error": type(error).__name__})

    # -- one run

    async def _process(self, item: _RunInHand) -> None:
        """Process one run and see to it that whatever happens ends in the database."""
        run, started = item.run, time.monotonic()
        with log_context(run_id=run.run_id, product_id=run.product_id):
            log.info("run.started", extra={"run_no": run.run_no, "attempt": run.attempts})
            outcome = "unfinished"
            try:
                outcome = await self._process_to_the_end(item)
            except LeaseLostError:
                outcome = "lease_lost"
            except StoreUnavailableError:  # the lease runs out, and whoever claims the run then finds the checkpoints
                outcome = "supabase_does_not_answer"
            finally:
                self._in_hand.pop(run.run_id, None)
                self._place_free.set()
                duration_s = round(time.monotonic() - started, 3)
                log.info("run.ended", extra={"outcome": outcome, "duration_s": duration_s, "attempt": run.attempts})

    async def _process_to_the_end(self, item: _RunInHand) -> str:
        run = item.run
        try:
            return await self._pipeline.process(run, item.halt)
        except HaltedError:
            await self._database.hand_back(run)
            return "handed_back"
        except RunCancelledError:
            await self._database.end_cancelled_run(run)
            return "cancelled"
        except DeferredError as error:
            await self._database.hand_back(run, delay_s=error.delay_s, reason=str(error))
            return "deferred"
        except (LeaseLostError, StoreUnavailableError):
            raise
        except RunFailedError as error:
            return await self._database.fail_run(run, code=error.code, message=str(error), detail=error.detail)
        except BudgetExceededError as error:
            log.warning("budget.exceeded", extra={"reason": error.in_figures})
            return await self._database.fail_run(
                run, code=error.code, message=error.in_figures, shown_message=str(error)
            )
        except AppError as error:
            return await self._database.fail_run(run, code=error.code, message=str(error))
        except Exception:
            log.exception("run.crashed")
            message = "Something went wrong inside Vitrine; the operator's log says what. Process it again to go on."
            return await self._database.fail_run(run, code="internal", message=message)

    async def _drain(self) -> None:
        """Let paid calls finish and hand the rest back, within the grace time."""
        for item in self._in_hand.values():
            item.halt.set()
        if self._tasks:
            log.info("worker.draining", extra={"runs": len(self._tasks)})
            _, late = await asyncio.wait(self._tasks, timeout=self._settings.shutdown_grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def _first_of(*waits: object, timeout_s: float) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    try:
        await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_worker(settings: Settings, *, stop: asyncio.Event, once: bool = False) -> None:
    """Connect, work until `stop` is set (with `once`: until nothing is due), and leave everything tidy."""
    load_pack(settings.scene_pack)
    worker_id = settings.worker_id or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    async with AsyncExitStack() as stack:
        connections = settings.worker_concurrency * CONNECTIONS_PER_RUN
        http = await stack.enter_async_context(build_http_client(max_connections=connections))
        client = await connect_supabase(settings, http)
        database = Database(client, patience_s=PATIENCE_S)
        await database.check_schema()
        models = await stack.enter_async_context(open_models(settings, http))
        store = ObjectStore(client, settings, patience_s=PATIENCE_S)
        pipeline = Pipeline(
            database=database,
            store=store,
            models=models.by_capability,
            settings=settings,
            memory=ByteBudget(settings.memory_budget_mb * 1_000_000),
        )
        if settings.worker_id is not None:
            freed = await database.free_runs_of(worker_id)
            log.info("worker.took_back", extra={"runs": freed})
        bell = asyncio.Event() if once else await stack.enter_async_context(listening(client))
        log.info("worker.started", extra={"worker_id": worker_id, "places": settings.worker_concurrency})
        worker = Worker(worker_id=worker_id, database=database, pipeline=pipeline, models=models, settings=settings)
        tidying = asyncio.create_task(keep_tidy(database, store, settings), name="maintenance")
        try:
            await worker.work(bell=bell, stop=stop, once=once)
        finally:
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)
        if once:
            await tidy_up(database, store, settings)
    log.info("worker.stopped", extra={"worker_id": worker_id})


async def run_until_signalled(settings: Settings, *, once: bool) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    await run_worker(settings, stop=stop, once=once)


def main() -> None:
    parser = argparse.ArgumentParser(description="Process products.")
    parser.add_argument("--once", action="store_true", help="process what is due, then exit")
    once: bool = parser.parse_args().once
    try:
        settings = load_settings()
        configure_logging(settings.log_level, service="worker")
        asyncio.run(run_until_signalled(settings, once=once))
    except ConfigError as error:
        sys.exit(f"Vitrine's worker cannot start: {error}")


if __name__ == "__main__":
    main()
