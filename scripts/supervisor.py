"""Runs the services of one Vitrine: starts them, keeps them alive, and stops all of them in order, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from types import TracebackType
from typing import Self

import psutil

from scripts.child import Child, Listeners
from scripts.console import Console
from scripts.data_folder import ROOT, DataFolder
from scripts.instance import Instance, ProcessNote
from scripts.services import STOP_ORDER, Service

GUARD_STOP_S = 60.0


class Supervisor:
    """`async with Supervisor(...)`: at the end of the block, also by a signal, nothing runs any more.

    The first SIGINT, SIGTERM or SIGHUP cancels the block (`stop_signal` says which it was); during the stop a second
    one kills what is left.
    """

    def __init__(self, *, instance: Instance, data: DataFolder, console: Console, quiet: bool, temporary: bool) -> None:
        """With `quiet` the services' lines only go to their log files; a `temporary` folder is removed at the end."""
        self.stop_signal: signal.Signals | None = None
        self._instance = instance
        self._data = data
        self._console = console
        self._quiet = quiet
        self._temporary = temporary
        self._children: dict[str, Child] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        self._guard = self._start_guard()
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # With nohup, SIGHUP is ignored, and stays so.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number, task)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data.ready.unlink(missing_ok=True)
        for name in STOP_ORDER:
            if name in self._children:
                await self._children[name].stop()
        await asyncio.to_thread(self._end_guard)

    async def start(self, *services: Service) -> None:
        """Start services at the same time; returns when all are ready.

        Raises:
            StartError: One of them cannot be started.
        """
        listeners = Listeners(on_line=self._on_line, on_trouble=self._console.trouble, on_process=self._note_processes)
        children = [Child(service, logs=self._data.logs, listeners=listeners) for service in services]
        self._children |= {child.service.name: child for child in children}
        await asyncio.gather(*(child.start() for child in children))

    # -- signals, notes, the guard

    def _on_signal(self, number: signal.Signals, task: asyncio.Task[object]) -> None:
        if self.stop_signal is None:
            self.stop_signal = number
            self._console.line("Stopping ...")
            task.cancel()
            return
        for child in self._children.values():
            child.kill()

    def _on_line(self, service: str, line: str) -> None:
        if not self._quiet:
            self._console.log(service, line)

    def _note_processes(self) -> None:
        notes = []
        for name in STOP_ORDER:
            child = self._children.get(name)
            if child is not None and child.pid is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    notes.append(ProcessNote.of(name, child.pid, child.service.stop_s))
        self._instance.note(notes)

    def _start_guard(self) -> subprocess.Popen[bytes]:
        descriptor = self._instance.descriptor
        options = ["--remove"] if self._temporary else []
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.guard", str(descriptor), str(self._data.path), *options],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            pass_fds=(descriptor,),
            start_new_session=True,
        )

    def _end_guard(self) -> None:
        """Let the guard do its work: with nothing left to stop it ends at once."""
        assert self._guard is not None
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait(GUARD_STOP_S)
        self._instance.release()
        if self._temporary and self._data.path.exists():
            raise OSError(f"{self._data.path} could not be removed.")
