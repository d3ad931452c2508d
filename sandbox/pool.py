"""Picture work in processes of its own, so that the event loop stays free."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from sandbox.work import PictureJob, perform

PROCESSES = 2  # one scene takes one core for about a second; more would only crowd a small machine


class PicturePool:
    """Starts its processes at the first job."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._stopped = False

    async def perform(self, job: PictureJob, seed: int) -> bytes:
        """The finished picture file.

        Raises:
            UnreadableSourceError
            BrokenProcessPool: A process died over it (out of memory), or the pool was stopped. After a death the
                next job starts new processes.
        """
        if self._stopped:
            raise BrokenProcessPool("the sandbox stops")
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                PROCESSES, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_process
            )
        executor = self._executor
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, perform, job, seed)
        except BrokenProcessPool:
            if self._executor is executor:
                self._executor = None
            raise

    def stop(self) -> None:
        """Kill the processes, whatever they are doing, and take no more jobs."""
        self._stopped = True
        if self._executor is None:
            return
        for process in multiprocessing.active_children():  # this process has no other children
            process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)  # quick: nobody is left to wait for
        self._executor = None


def _prepare_process() -> None:
    """Leave no process behind when the sandbox is killed: a pool process alone would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the sandbox itself ends us
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
