"""NanoBanana's work in the background: fetch the input, make the picture, keep it, call back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from sandbox import hostile
from sandbox.loopback import FetchError, LoopbackClient
from sandbox.nanobanana_records import callback_body
from sandbox.sandbox import Sandbox
from sandbox.tasks import DONE, FAILED, NOT_CREATED, Task, TaskStore
from sandbox.wire import Size, picture_size, size_for
from sandbox.work import PictureJob, Scene, UnreadableSourceError

CALLBACK_ATTEMPTS = 3  # the vendor does not say how often it tries
CALLBACK_PAUSE_S = 1.0
CLEANING_INTERVAL_S = 60.0


class _TaskFailedError(Exception):
    def __init__(self, message: str, *, flag: int = FAILED, code: int = 500, charged: bool = False) -> None:
        super().__init__(message)
        self.flag = flag
        self.code = code
        self.charged = charged


class TaskRunner:
    def __init__(self, sandbox: Sandbox, store: TaskStore) -> None:
        self._sandbox = sandbox
        self._store = store
        self._client = LoopbackClient()
        self._running: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Take up the tasks that a stop or a kill left unfinished; they are paid for already."""
        for task in self._store.unfinished():
            self.submit(task)
        self._spawn(self._clean(), "remove expired results")

    def submit(self, task: Task) -> None:
        self._spawn(self._run(task), task.task_id)

    async def stop(self) -> None:
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.close()

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        running = asyncio.create_task(work, name=name)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _run(self, task: Task) -> None:
        try:
            self._store.add_result(task, await self._make(task))
            task.flag = DONE
            task.result_expires_ms = now_ms() + round(self._sandbox.behaviour.result_lifetime_s * 1000)
        except _TaskFailedError as error:
            task.flag, task.error_code, task.error_message = error.flag, error.code, str(error)
            line = self._sandbox.invoice.line(task.line_number)
            if line is not None and not error.charged:
                self._sandbox.invoice.refund(line)
        task.completed_ms = now_ms()
        self._store.save(task)
        await self._call_back(task)

    async def _make(self, task: Task) -> bytes:
        """The picture, or what the fault puts in its place.

        Raises:
            _TaskFailedError
        """
        source = await self._fetch_input(task)
        fault = task.fault
        if fault and fault.name == "policy_refusal":
            raise _TaskFailedError("Refused by the content policy.", code=400, charged=fault.flag("charged"))
        if fault and fault.name == "task_failed":
            flag = int(fault.number("flag"))
            raise _TaskFailedError("The generation failed.", flag=flag, charged=fault.flag("charged"))
        size = _output_size(task, source)
        scene = Scene(prompt=task.prompt, width=size.width, height=size.height)
        job = PictureJob(source=source, steps=(scene,), media_type=task.media_type)
        line = self._sandbox.invoice.line(task.line_number)
        try:
            picture = await self._sandbox.make(job, line)
        except UnreadableSourceError as error:
            raise _TaskFailedError(str(error), code=400) from error
        except BrokenProcessPool as error:
            raise _TaskFailedError("The picture work failed.") from error
        if line is not None:
            self._sandbox.invoice.set_output(line, picture)
        if fault and fault.name == "degenerate":
            return hostile.degenerate(fault.text("kind"), source, (size.width, size.height))
        if fault and fault.name == "decompression_bomb":
            return hostile.decompression_bomb(int(fault.number("side")))
        if fault and fault.name == "wrong_bytes":
            return hostile.wrong_bytes(fault.text("kind"))
        return picture

    async def _fetch_input(self, task: Task) -> bytes | None:
        """The first picture; the scenes here have one subject. None: from words alone.

        Raises:
            _TaskFailedError: It cannot be had, so the task could not be created.
        """
        if not task.image_urls or not self._sandbox.behaviour.fetch_inputs:
            return None
        try:
            source = await self._client.fetch(task.image_urls[0])
        except FetchError as error:
            raise _TaskFailedError(str(error), flag=NOT_CREATED, code=400) from error
        line = self._sandbox.invoice.line(task.line_number)
        if line is not None:
            self._sandbox.invoice.set_picture(line, source)
        return source

    async def _call_back(self, task: Task) -> None:
        if task.callback_url is None:
            return
        for _ in range(CALLBACK_ATTEMPTS):
            if await self._client.post(task.callback_url, callback_body(task)):
                return
            await asyncio.sleep(CALLBACK_PAUSE_S)

    async def _clean(self) -> None:
        while True:
            self._store.remove_expired_results(now_ms())
            await asyncio.sleep(CLEANING_INTERVAL_S)


def now_ms() -> int:
    """Milliseconds since 1970, as on the wire."""
    return round(time.time() * 1000)


def _output_size(task: Task, source: bytes | None) -> Size:
    known = picture_size(source) if source is not None and task.ratio is None else None
    return size_for(task.ratio or (known.ratio if known else 1.0), task.pixels)
