"""Starts the commands behind `make up`, `make demo` and `make down` as processes, and looks what they leave behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from scripts.environment import setting_names

ROOT = Path(__file__).parent.parent
RING = ROOT / "samples" / "ring.jpg"
EMPTY_FOLDER = Path(tempfile.gettempdir())  # a developer's `.env` must not reach the commands
PATIENCE_S = 90.0


@dataclass(kw_only=True)
class Command:
    """A running command, its output collected line by line."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _reader: threading.Thread | None = None

    @classmethod
    def start(cls, module: str, *arguments: str, **environment: str) -> Self:
        """`python -m <module>` with stdout and stderr together, and none of this machine's own settings."""
        known = setting_names()
        clean = {name: value for name, value in os.environ.items() if name.upper() not in known}
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=EMPTY_FOLDER,
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
        )
        command = cls(process=process)
        command._reader = threading.Thread(target=command._read, daemon=True)
        command._reader.start()
        return command

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            self.lines += (line.rstrip("\n") for line in self.process.stdout)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait(self) -> int:
        """The exit code, when all its output has been read."""
        code = self.process.wait(PATIENCE_S)
        assert self._reader is not None
        self._reader.join(PATIENCE_S)
        return code

    def wait_for_line(self, text: str) -> None:
        eventually(lambda: text in self.output or self.process.poll() is not None, f"the line {text!r}")
        assert text in self.output, self.output

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.wait()


def run(module: str, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and output of a command that ends by itself."""
    command = Command.start(module, *arguments, **environment)
    return command.wait(), command.output


def wait_until_ready(command: Command, data: Path) -> dict[str, Any]:
    """The content of `ready.json`."""
    file = data / "ready.json"
    eventually(lambda: file.exists() or command.process.poll() is not None, "ready.json")
    assert file.exists(), command.output
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def eventually(condition: Callable[[], bool], what: str, *, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain for {what}"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    """Every process that works in the folder or has it in its command line (not our own child, which is named last)."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        facts = process.info
        if facts["status"] == psutil.STATUS_ZOMBIE:
            continue
        words = [*(facts["cmdline"] or []), facts["cwd"] or ""]
        if any(str(folder) in word for word in words):
            found.append(f"{facts['pid']} {' '.join(facts['cmdline'] or [])}")
    return found


def service_process(data: Path, *, service: str) -> psutil.Process:
    """The running process of a service, as the lock file names it."""
    record = json.loads((data / "running.lock").read_text())
    [pid] = [note["pid"] for note in record["services"] if note["name"] == service]
    return psutil.Process(pid)
