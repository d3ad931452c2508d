"""`worker.py` as it is, which also says `ready` when it hears the bell, so that nothing is queued before."""

from __future__ import annotations

import asyncio
import logging

from config import load_settings
from logging_config import configure_logging
from worker import run_until_signalled


class _SaysReady(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "bell.listening":
            print("ready", flush=True)  # noqa: T201  whoever starts us waits for this line


def main() -> None:
    settings = load_settings()
    configure_logging(settings.log_level, service="worker")
    bell = logging.getLogger("bell")
    bell.setLevel(logging.INFO)
    bell.propagate = False
    bell.addHandler(_SaysReady())
    asyncio.run(run_until_signalled(settings, once=False))


if __name__ == "__main__":
    main()
