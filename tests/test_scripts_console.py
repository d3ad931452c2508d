"""What `make up` prints: service logs made readable, and an installation's progress."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from scripts.console import Console, message_of, printable, wants_colour
from scripts.install import count_packages
from tests.scripts_support import ROOT

ENTRY = {
    "level": "INFO",
    "logger": "worker",
    "event": "run.ended",
    "service": "worker",
    "timestamp": "2026-11-20T09:56:00.425503+00:00",
    "outcome": "completed",
    "duration_s": 8.585,
    "request_id": "0a1b",
    "product_id": "2d80",
}
TIME = datetime.fromisoformat(ENTRY["timestamp"]).astimezone().strftime("%H:%M:%S")  # type: ignore[arg-type]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def rendered(raw: str, *, service: str = "worker", colour: bool = False) -> str:
    stream = io.StringIO()
    Console(stream, colour=colour).log(service, raw)
    return stream.getvalue()


def test_a_json_line_becomes_time_service_event_and_fields() -> None:
    expected = f"{TIME} worker   run.ended  outcome=completed  duration_s=8.585  product_id=2d80\n"
    assert rendered(json.dumps(ENTRY)) == expected


def test_values_with_blanks_or_line_ends_stay_on_their_line() -> None:
    line = rendered(json.dumps({**ENTRY, "outcome": "two\nlines", "product_id": None}))
    assert line.count("\n") == 1
    assert r'outcome="two\nlines"' in line
    assert "product_id" not in line


def test_plain_text_passes_without_its_control_characters() -> None:
    line = rendered("Traceback \x1b[31m(most\x07 recent call last):\x1b[0m", service="api")
    assert line.endswith(" api      Traceback (most  recent call last):\n")
    assert "\x1b" not in line


def test_json_that_is_no_object_is_plain_text() -> None:
    assert rendered("[1, 2]").endswith("worker   [1, 2]\n")


def test_a_traceback_stands_below_its_line() -> None:
    lines = rendered(json.dumps({**ENTRY, "level": "ERROR", "exc_info": "Traceback:\n  File x\nKeyError"})).splitlines()
    assert [line.strip() for line in lines[1:]] == ["Traceback:", "File x", "KeyError"]


@pytest.mark.parametrize(
    ("changes", "is_shown"),
    [
        ({"event": "request.answered", "method": "GET", "status": 200}, False),
        ({"event": "request.answered", "method": "GET", "status": 503}, True),
        ({"event": "request.answered", "method": "POST", "status": 202}, True),
        ({"logger": "uvicorn.error", "event": "Started server process [1]"}, False),
        ({"logger": "uvicorn.error", "event": "Application startup failed.", "level": "ERROR"}, True),
    ],
)
def test_routine_is_left_out(changes: dict[str, object], is_shown: bool) -> None:
    assert bool(rendered(json.dumps({**ENTRY, **changes}))) is is_shown


def test_colours_change_nothing_but_colours() -> None:
    warning = json.dumps({**ENTRY, "level": "WARNING"})
    coloured = rendered(warning, colour=True)
    assert "\x1b[33mrun.ended\x1b[0m" in coloured
    assert printable(coloured).strip() == rendered(warning).strip()


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


def test_a_terminal_that_is_gone_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    Console(stream, colour=False).line("nobody reads this")


def test_the_message_of_a_line_is_its_event_or_its_text() -> None:
    assert message_of(json.dumps(ENTRY)) == "run.ended"
    assert message_of("  plain text ") == "plain text"


def test_every_pinned_package_is_counted() -> None:
    assert count_packages("-r x.txt\naiohttp==3.1 \\\n    --hash=sha256:ab\nuvicorn[standard]==0.3 ; x\n# a==1\n") == 2


def test_an_installation_that_fails_shows_what_pip_said(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("./missing-1.0-py3-none-any.whl\n")
    installed = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "install.py"), str(requirements), "what is needed"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 1
    assert installed.stdout.startswith("Installing what is needed (0 packages")
    assert installed.stderr.startswith("pip could not install what is needed. It said:\n  ")
    assert "missing-1.0" in installed.stderr
