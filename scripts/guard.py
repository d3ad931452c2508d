"""Outlives its supervisor to clean up after it: `python -m scripts.guard LOCK_DESCRIPTOR FOLDER [--remove]`.

Its standard input is a pipe that only the supervisor holds. When that closes, however the supervisor ended, the guard
stops what is still running, with `--remove` also removes the folder, and lets go of the lock.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path

from scripts.data_folder import DataFolder
from scripts.instance import Record, stop_left_behind


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    descriptor, folder = int(sys.argv[1]), DataFolder(Path(sys.argv[2]))
    sys.stdin.buffer.read()
    record = Record.read(descriptor)
    if record is not None:
        stop_left_behind(record.services, folder)
    if "--remove" in sys.argv[3:]:
        shutil.rmtree(folder.path, ignore_errors=True)


if __name__ == "__main__":
    main()
