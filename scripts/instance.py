"""At most one Vitrine runs in a data folder: who it is, what it has started, and how to end what it left behind.

The lock is held by the supervisor and by its guard (`guard.py`), so it is free only when nothing runs any more, even
when the supervisor was killed. Should both have been killed, the next start ends the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

from scripts.data_folder import DataFolder

LOOK_AGAIN_S = 0.1
POSTGRES_STOP_S = 20.0
SAME_START_S = 2.0  # the clock may be set while a process runs, which shifts its start by as much


class AlreadyRunningError(Exception):
    """`pid`: the supervisor that holds the lock."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"Vitrine is already running here (process {pid}).")
        self.pid = pid


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessNote:
    """Enough to recognise a process later, though its number may have been given to another one."""

    name: str
    pid: int
    started_at: float  #: seconds since the epoch
    grace_s: float = 0  #: how long it may take to stop

    @classmethod
    def of(cls, name: str, pid: int, grace_s: float = 0) -> Self:
        """Raises psutil.NoSuchProcess when it has ended already."""
        return cls(name=name, pid=pid, started_at=psutil.Process(pid).create_time(), grace_s=grace_s)

    def living(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.started_at) < SAME_START_S
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the lock file says. `services` is in the order in which they are to be stopped."""

    supervisor: ProcessNote
    services: tuple[ProcessNote, ...] = ()

    @classmethod
    def read(cls, descriptor: int) -> Self | None:
        """None when the file is empty, or just being written."""
        try:
            content = json.loads(os.pread(descriptor, 65_536, 0))
        except ValueError:
            return None
        return cls(
            supervisor=ProcessNote(**content["supervisor"]),
            services=tuple(ProcessNote(**service) for service in content["services"]),
        )

    def write(self, descriptor: int) -> None:
        content = json.dumps(asdict(self)).encode()
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))


class Instance:
    """The running Vitrine of a data folder, made by `claim`."""

    def __init__(self, descriptor: int, supervisor: ProcessNote) -> None:
        self.descriptor = descriptor
        self._supervisor = supervisor

    @classmethod
    def claim(cls, folder: DataFolder, *, on_wait: Callable[[], None] = lambda: None) -> Self:
        """Take the folder for this process, after ending what a killed one left behind.

        `on_wait` is told when that takes its time.

        Raises:
            AlreadyRunningError
        """
        folder.create()
        descriptor = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
        has_waited = False
        while not _try_lock(descriptor):
            holder = Record.read(descriptor)
            if holder is not None and holder.supervisor.living():
                os.close(descriptor)
                raise AlreadyRunningError(holder.supervisor.pid)
            if not has_waited:
                on_wait()
                has_waited = True
            time.sleep(LOOK_AGAIN_S)
        if (earlier := Record.read(descriptor)) is not None:
            stop_left_behind(earlier.services, folder)
        instance = cls(descriptor, ProcessNote.of("supervisor", os.getpid()))
        instance.note([])
        return instance

    def note(self, services: Sequence[ProcessNote]) -> None:
        """Write down what runs now, in the order in which it is to be stopped."""
        Record(supervisor=self._supervisor, services=tuple(services)).write(self.descriptor)

    def release(self) -> None:
        os.close(self.descriptor)


def running_supervisor(folder: DataFolder) -> ProcessNote | None:
    """Who holds the folder's lock; also one that was killed and whose guard is still at work. None: nobody."""
    try:
        descriptor = os.open(folder.lock, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        while not _try_lock(descriptor):
            if (record := Record.read(descriptor)) is not None:
                return record.supervisor
            time.sleep(LOOK_AGAIN_S)
        return None
    finally:
        os.close(descriptor)


def stop_left_behind(services: Sequence[ProcessNote], folder: DataFolder) -> None:
    """Stop what still runs of `services`, one after the other, kill what does not obey, then Postgres."""
    for service in services:
        process = service.living()
        if process is None:
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            try:
                process.wait(service.grace_s)
            except psutil.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(service.pid, signal.SIGKILL)  # each service leads a group of its own
    _stop_postgres(folder.postgres)
    folder.ready.unlink(missing_ok=True)


def _stop_postgres(files: Path) -> None:
    """Stop the server on these files, which stays behind when the embedded Supabase is killed."""
    try:
        pid = int((files / "postmaster.pid").read_text().partition("\n")[0])
        process = psutil.Process(pid)
        if Path(process.cwd()) != files.resolve():
            return  # the number was given to another program
        process.send_signal(signal.SIGINT)  # "fast": ends connections, keeps what was committed
        process.wait(POSTGRES_STOP_S)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return
    except psutil.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # "immediate": recovers at the next start


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
