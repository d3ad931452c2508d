"""Install locked requirements and show how far it is: `python scripts/install.py requirements-local.txt "what ..."`.

Needs nothing but the standard library: it runs in a virtual environment that is still empty.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TextIO

REDRAW_S = 0.2
KEPT_LINES = 15  # of pip's output, for when it fails
ERASE_LINE = "\r\033[K"


class PipInstall:
    """One run of pip; a thread reads what it says."""

    def __init__(self, requirements: Path) -> None:
        self.total = count_packages(requirements.read_text())
        self.collected = 0
        self.is_unpacking = False
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        options = ("--disable-pip-version-check", "--no-input", "--progress-bar=off", "--require-hashes")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pip", "install", *options, "-r", str(requirements)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.last_lines.append(line.rstrip())
            if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied")):
                self.collected += 1
            elif line.startswith("Ignoring "):  # it is for another system
                self.total -= 1
            elif line.startswith("Installing collected packages"):
                self.is_unpacking = True

    def exit_code(self, *, timeout_s: float) -> int | None:
        """None while it is still at work after `timeout_s`."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join()
        return code

    def status(self) -> str:
        if self.is_unpacking:
            return f"unpacking {self.collected} packages"
        return f"{self.collected} of {self.total} packages"


def count_packages(requirements: str) -> int:
    """How many packages are pinned, those for other systems included."""
    return len(re.findall(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?==", requirements, flags=re.MULTILINE))


def install(requirements: Path, title: str, stream: TextIO) -> int:
    """pip's exit code. On a terminal one line is redrawn meanwhile."""
    started = time.monotonic()
    pip = PipInstall(requirements)
    live = stream.isatty()
    if not live:
        print(f"Installing {title} ({pip.total} packages, about a minute the first time) ...", file=stream, flush=True)
    while (code := pip.exit_code(timeout_s=REDRAW_S)) is None:
        if live:
            elapsed_s = time.monotonic() - started
            stream.write(f"{ERASE_LINE}Installing {title}: {pip.status()}, {elapsed_s:.0f} s")
            stream.flush()
    erase = ERASE_LINE if live else ""
    if code == 0:
        print(f"{erase}Installed {title} in {time.monotonic() - started:.0f} s.", file=stream, flush=True)
    else:
        print(f"{erase}pip could not install {title}. It said:", *pip.last_lines, sep="\n  ", file=sys.stderr)
    return code


def main() -> None:
    requirements, title = sys.argv[1:]
    try:
        sys.exit(install(Path(requirements), title, sys.stdout))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
