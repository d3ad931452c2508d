"""JSON lines on stdout: a fixed event name, data in fields, and the ids of the request, product and run at hand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

_context: ContextVar[dict[str, str]] = ContextVar("log_context")

#: Libraries that put addresses (signed ones too) or whole requests into their messages.
NOISY_LOGGERS = ("httpx", "httpcore", "aiohttp", "hpack", "realtime", "websockets", "asyncio", "PIL", "uvicorn.access")


@contextmanager
def log_context(**ids: object) -> Iterator[None]:
    """Put ids (request_id, product_id, run_id ...) on every line logged inside, tasks started inside included."""
    token = _context.set(_context.get({}) | {name: str(value) for name, value in ids.items()})
    try:
        yield
    finally:
        _context.reset(token)


class _AddContext(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _context.get({}).items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def configure_logging(level: str, *, service: str) -> None:
    """Send this process's log to stdout as JSON lines; `service` is api or worker."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            rename_fields={"levelname": "level", "name": "logger", "message": "event"},
            static_fields={"service": service},
        )
    )
    handler.addFilter(_AddContext())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
