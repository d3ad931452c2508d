"""The real worker as a process of its own: `worker.main`, forked from a process that has loaded it already.

That spares the second of imports that a fresh interpreter takes, and changes nothing else: it is killed, stopped and
waited for as any process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx

import pipeline
import storage
import supabase_rpc
import transport
import worker
from providers import _download, nanobanana, reve

_forkserver = multiprocessing.get_context("forkserver")
_forkserver.set_forkserver_preload([__name__])

_TIMEOUT = httpx.Timeout(connect=5.0, read=5.0, write=5.0, pool=10.0)

#: What the worker waits for, in seconds, so that a hang costs a moment instead of minutes. Each is far above what the
#: answer takes here, and stands in the same order as in production.
_SHORTER_WAITS = {
    (nanobanana, "SUBMIT_TIMEOUT_S"): 8.0,
    (nanobanana, "POLL_TIMEOUT_S"): 5.0,
    (_download, "_TIMEOUT"): _TIMEOUT,
    (_download, "PATIENCE_S"): 1.5,
    (reve, "JUDGING_S"): 2.0,
    (pipeline, "DEFERRAL_S"): 1.0,
    (storage, "ANSWER_WITHIN_S"): 10.0,
    (supabase_rpc, "ANSWER_WITHIN_S"): 7.0,
}
_SHORTER_DEFAULTS = {
    (transport.build_http_client, "timeout"): _TIMEOUT,
    (reve.Reve.__init__, "deadline_s"): 10.0,
    (nanobanana.NanoBanana.__init__, "deadline_s"): 60.0,
    (_download.ResultDownloader.__init__, "deadline_s"): 8.0,
}


class WorkerProcess:
    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._process = _forkserver.Process(target=_run, args=(dict(environment), log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        """Ask it to end, as an orchestrator does."""
        self._process.terminate()

    def pause(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait_gone(self, timeout_s: float = 30) -> None:
        self._process.join(timeout_s)
        if self._process.is_alive():
            raise TimeoutError(f"the worker {self.pid} does not end")
        self._process.close()


def _run(environment: Mapping[str, str], log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["worker.py"]
    for (module, name), value in _SHORTER_WAITS.items():
        if not hasattr(module, name):
            raise AttributeError(f"{module.__name__}.{name} is gone: it cannot be shortened")
        setattr(module, name, value)
    for (function, parameter), value in _SHORTER_DEFAULTS.items():
        defaults = function.__kwdefaults__ or {}
        if parameter not in defaults:
            raise AttributeError(f"{function.__qualname__} has no {parameter} any more: it cannot be shortened")
        defaults[parameter] = value
    worker.main()
