"""One service as a child process: started, listened to, started again when it dies, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.console import message_of
from scripts.services import Service

READY_WITHIN_S = 90.0  # the first start creates a database; a machine may be slow
PROBE_EVERY_S = 0.1
FIRST_PAUSE_S = 0.5  # before a service is started again; doubles each time
LONGEST_PAUSE_S = 30.0
LASTING_S = 60.0  # who ran this long before it died has earned a short pause again
LOG_BYTES = 5_000_000  # a log file that is larger at a start is put aside, one generation of it
LINE_BYTES = 100_000  # longer lines are broken
KEPT_LINES = 12  # of the last words, for when it dies at once
DRAIN_OUTPUT_S = 1.0  # for the rest of the output of a process that has ended


class StartError(Exception):
    """A service cannot be started; the message says which and why, `last_lines` is what it printed in the end."""

    def __init__(self, message: str, *, service: str, last_lines: Sequence[str]) -> None:
        super().__init__(message)
        self.service = service
        self.last_lines = tuple(last_lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Who is told what of a child."""

    on_line: Callable[[str, str], None]  #: service name, line
    on_trouble: Callable[[str], None]
    on_process: Callable[[], None]  #: its process has changed


class Child:
    def __init__(self, service: Service, *, logs: Path, listeners: Listeners) -> None:
        self.service = service
        self.pid: int | None = None
        self._log_file = logs / f"{service.name}.log"
        self._listeners = listeners
        self._is_ready = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when the service is ready; from then on it is kept alive.

        Raises:
            StartError: It ended instead, or takes too long.
        """
        _put_aside(self._log_file)
        self._task = asyncio.create_task(self._keep_alive(), name=f"child-{self.service.name}")
        ready = asyncio.create_task(self._is_ready.wait())
        try:
            await asyncio.wait({self._task, ready}, timeout=READY_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self._task.done():
            await self._task
        elif not self._is_ready.is_set():
            raise self._failure(f"was not ready within {READY_WITHIN_S:.0f} seconds")

    async def stop(self) -> None:
        """Send SIGTERM and wait; kill it when it does not end in its time."""
        self._is_stopping.set()
        if self._task is None:
            return
        self._signal(signal.SIGTERM)
        _, unfinished = await asyncio.wait({self._task}, timeout=self.service.stop_s)
        if unfinished:
            self._listeners.on_trouble(f"The {self.service.title} does not stop; it is killed.")
            self.kill()
            await asyncio.wait({self._task})

    def kill(self) -> None:
        """Kill it with all that it has started."""
        self._is_stopping.set()
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    # -- the life of the process

    async def _keep_alive(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            started = time.monotonic()
            code = await self._run_once()
            if self._is_stopping.is_set():
                return
            if not self._is_ready.is_set():
                raise self._failure(f"did not start ({_describe(code)})")
            if time.monotonic() - started > LASTING_S:
                pause_s = FIRST_PAUSE_S
            self._listeners.on_trouble(
                f"The {self.service.title} has ended ({_describe(code)}); it is started again in {pause_s:g} s."
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_stopping.wait(), pause_s)
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _run_once(self) -> int:
        """The exit code of one process; below zero: the signal that killed it."""
        service = self.service
        process = await asyncio.create_subprocess_exec(
            *service.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            cwd=service.folder,
            env=dict(service.environment),
            start_new_session=True,  # Ctrl-C is for the supervisor alone, and its group can be killed as one
        )
        self.pid = process.pid
        self._listeners.on_process()
        if self._is_stopping.is_set():  # the wish to stop came while it was started
            self._signal(signal.SIGTERM)
        listening = asyncio.create_task(self._listen(process))
        probing = asyncio.create_task(self._probe())
        try:
            return await process.wait()
        finally:
            self.pid = None
            self._listeners.on_process()
            probing.cancel()
            # Something that the service has started may hold the pipe open.
            await asyncio.wait({listening}, timeout=DRAIN_OUTPUT_S)
            listening.cancel()

    async def _listen(self, process: Process) -> None:
        assert process.stdout is not None
        with self._log_file.open("ab", buffering=0) as log:
            async for line in _lines(process.stdout):
                with contextlib.suppress(OSError):  # a full disk must not stop us from reading
                    log.write(line + b"\n")
                text = line.decode(errors="replace")
                if text.startswith("ready ") and self.service.probe is None:
                    self._is_ready.set()
                elif text.strip():
                    self._last_lines.append(text)
                    self._listeners.on_line(self.service.name, text)

    async def _probe(self) -> None:
        while self.service.probe is not None and not self._is_ready.is_set():
            if await self.service.probe():
                self._is_ready.set()
            else:
                await asyncio.sleep(PROBE_EVERY_S)

    def _failure(self, what: str) -> StartError:
        last_words = f": {message_of(self._last_lines[-1])}" if self._last_lines else "."
        message = f"The {self.service.title} {what}{last_words}"
        return StartError(message, service=self.service.name, last_lines=self._last_lines)


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Line by line without their ends; the last one may have none."""
    rest = b""
    while chunk := await stream.read(LINE_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
        if len(rest) > LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _put_aside(log_file: Path) -> None:
    if log_file.exists() and log_file.stat().st_size > LOG_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))


def _describe(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"
