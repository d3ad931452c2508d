"""`make down`: stop a running `make up` and wait until nothing of it runs any more."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from scripts.data_folder import DEFAULT_FOLDER, DataFolder
from scripts.instance import running_supervisor

PATIENCE_S = 300.0  # the worker may have to wait for a picture that is paid for (SHUTDOWN_GRACE_SECONDS)
LOOK_EVERY_S = 0.1


def stop(data: DataFolder) -> None:
    supervisor = running_supervisor(data)
    if supervisor is None:
        print("Vitrine is not running.")
        return
    print("Stopping ...", flush=True)
    process = supervisor.living()
    if process is not None:
        process.terminate()
    deadline = time.monotonic() + PATIENCE_S
    while running_supervisor(data) is not None:
        if time.monotonic() > deadline:
            sys.exit(f"Vitrine (process {supervisor.pid}) has not stopped within {PATIENCE_S:.0f} seconds.")
        time.sleep(LOOK_EVERY_S)
    print("Vitrine has stopped.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Stop a running Vitrine.")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="the folder that it was started with")
    stop(DataFolder(parser.parse_args().data.absolute()))


if __name__ == "__main__":
    main()
