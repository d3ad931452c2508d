"""What people see: services' log lines made readable, steps as they are done, problems; colours on terminals only."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO

RESET = "\033[0m"
BOLD, DIM, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN = (f"\033[{code}m" for code in (1, 2, 31, 32, 33, 34, 35, 36))
SERVICE_COLOURS = {"api": CYAN, "worker": GREEN, "supabase": MAGENTA, "sandbox": BLUE}
LEVEL_COLOURS = {"WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}

#: Shown otherwise or of no use to a reader; the log files have them all.
HIDDEN_FIELDS = frozenset(
    {"level", "logger", "event", "service", "timestamp", "color_message", "request_id", "run_id", "exc_info"}
)
ANSI_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Console:
    """Writes whole lines to `stream`. A terminal that has gone away is no reason to fail."""

    def __init__(self, stream: TextIO, *, colour: bool | None = None) -> None:
        self._stream = stream
        self._colour = wants_colour(stream) if colour is None else colour

    def line(self, text: str = "") -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream is closed
            print(text, file=self._stream, flush=True)

    def bold(self, text: str) -> str:
        return self._paint(BOLD, text)

    def done(self, what: str, detail: str = "") -> None:
        """One step of several, finished."""
        self.line(f"  {self._paint(GREEN, '✓')} {what:<20} {self._paint(DIM, detail)}".rstrip())

    def trouble(self, text: str) -> None:
        self.line(f"  {self._paint(YELLOW, '!')} {text}")

    def problem(self, text: str) -> None:
        self.line(self._paint(RED, text))

    def log(self, service: str, raw: str) -> None:
        """One line of a service: JSON is made readable, plain text passes, routine is left out."""
        entry = _entry_of(raw)
        if entry is None:
            self._service_line(datetime.now().astimezone(), service, printable(raw))
            return
        if is_routine(entry):
            return
        level = str(entry.get("level", "INFO"))
        parts = [self._paint(LEVEL_COLOURS.get(level, ""), printable(str(entry.get("event", ""))))]
        parts += [
            f"{self._paint(DIM, name + '=')}{_value(value)}"
            for name, value in entry.items()
            if name not in HIDDEN_FIELDS and value is not None
        ]
        self._service_line(_time_of(entry), service, "  ".join(parts))
        for line in str(entry.get("exc_info") or "").splitlines():
            self.line(f"         {self._paint(DIM, printable(line))}")

    def _service_line(self, at: datetime, service: str, text: str) -> None:
        name = self._paint(SERVICE_COLOURS.get(service, ""), f"{service:<8}")
        self.line(f"{self._paint(DIM, f'{at:%H:%M:%S}')} {name} {text}")

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{RESET}" if self._colour and colour and text else text


def wants_colour(stream: TextIO) -> bool:
    """Terminals, unless NO_COLOR (https://no-color.org) or TERM=dumb says otherwise."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def is_routine(entry: Mapping[str, Any]) -> bool:
    """Whether a line only says that all is as always: a server's own start-up talk, a read that was answered."""
    if entry.get("level") not in ("INFO", "DEBUG"):
        return False
    if str(entry.get("logger", "")).startswith("uvicorn"):
        return True
    return entry.get("event") == "request.answered" and entry.get("method") == "GET" and entry.get("status", 0) < 400


def message_of(raw: str) -> str:
    """What a line of a service says, without its fields."""
    entry = _entry_of(raw)
    return printable(raw if entry is None else str(entry.get("event", ""))).strip()


def printable(text: str) -> str:
    """The text without colours and control characters of its own."""
    plain = ANSI_SEQUENCE.sub("", text)
    return "".join(letter if letter.isprintable() else " " for letter in plain)


def _entry_of(raw: str) -> dict[str, Any] | None:
    """A structured log line; None: plain text."""
    try:
        entry = json.loads(raw)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _value(value: object) -> str:
    if isinstance(value, str) and value and value.isprintable() and not re.search(r'[\s"=]', value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _time_of(entry: Mapping[str, Any]) -> datetime:
    try:
        return datetime.fromisoformat(str(entry.get("timestamp"))).astimezone()
    except ValueError:
        return datetime.now().astimezone()
