"""The processes under test: started on free ports, watched from outside, stopped by pid."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
START_LIMIT_S = 120.0
STOP_LIMIT_S = 60.0
LAST_WORDS = 20  # lines, of what did not start


class DidNotStartError(Exception):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """CPU seconds of one process since its start."""

    loop: float  #: its first thread, which runs the event loop
    threads: float  #: all its others: in a worker, picture work and nothing else

    @property
    def total(self) -> float:
        return self.loop + self.threads

    def __sub__(self, earlier: CpuTimes) -> CpuTimes:
        return CpuTimes(loop=self.loop - earlier.loop, threads=self.threads - earlier.threads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A started process. `first_line` is what it said when it was ready."""

    process: subprocess.Popen[str]
    first_line: str

    def cpu(self) -> CpuTimes:
        return cpu_of(psutil.Process(self.process.pid))

    def rss(self) -> int:
        """Bytes of memory that are its own or shared and in use."""
        rss: int = psutil.Process(self.process.pid).memory_info().rss
        return rss


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str],
    folder: Path,
    is_ready: Callable[[str], bool] = lambda line: line.split()[:1] == ["ready"],
) -> AsyncIterator[Running]:
    """A process, from the line that says it is ready until SIGTERM has ended it. All it prints is in `log`.

    Raises:
        DidNotStartError: It ended, or was not ready in time.
    """
    process = _start(command, log, environment, folder)
    try:
        yield Running(process=process, first_line=await _wait_ready(process, log, is_ready))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(process.wait, STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[str]:
    with log.open("w", encoding="utf-8") as output:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
        )


async def _wait_ready(process: subprocess.Popen[str], log: Path, is_ready: Callable[[str], bool]) -> str:
    ends_at = time.monotonic() + START_LIMIT_S
    while time.monotonic() < ends_at:
        for line in _whole_lines(log):
            if is_ready(line):
                return line
        if process.poll() is not None:
            break
        await asyncio.sleep(0.02)
    raise DidNotStartError("\n".join(_whole_lines(log)[-LAST_WORDS:]))


def _whole_lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").split("\n")[:-1]


def cpu_of(process: psutil.Process) -> CpuTimes:
    """CPU seconds of one process, without its children."""
    threads = {thread.id: thread.user_time + thread.system_time for thread in process.threads()}
    loop = threads.get(process.pid, 0.0)
    times = process.cpu_times()
    # Threads that have ended are in the process's sum alone.
    return CpuTimes(loop=loop, threads=max(0.0, times.user + times.system - loop))


def cpu_of_family(pid: int) -> float:
    """CPU seconds of a process, its living children and those it has waited for, such as Postgres and its backends."""
    parent = psutil.Process(pid)
    own = parent.cpu_times()
    seconds = own.user + own.system + own.children_user + own.children_system
    for child in parent.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        seconds += times.user + times.system
    return float(seconds)
