"""The invoice: every call, what it was billed, and whether its answer went out.

Append-only on disk (`invoice.jsonl`, one change of one line each), merged in memory. What is billed is written when
the work is accepted, so a crash or a lost answer afterwards cannot unbill it.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox import fingerprint
from sandbox.behaviour import Provider
from sandbox.prices import micros


@dataclass(slots=True, kw_only=True)
class Line:
    """One call from the product."""

    number: int
    at: str  #: arrival, ISO 8601, UTC
    provider: Provider
    operation: str
    request_id: str
    prompt: str | None = None
    prompt_sha256: str | None = None
    fault: str | None = None
    accepted: bool = False  #: the work was taken on
    credits: int = 0  #: billed
    cost_micros: int = 0  #: billed, micro-dollars
    work: str | None = None  #: what was bought: cutout, scene, restore ..., several joined by `+`
    picture: str | None = None  #: fingerprint of the first picture that was sent
    origin: str | None = None  #: fingerprint of the photograph that `picture` was made from here; else `picture`
    input_paths: list[str] = dataclasses.field(default_factory=list)  #: of `imageUrls`, without their signatures
    output: str | None = None  #: fingerprint of the picture that was made
    task_id: str | None = None
    status: int | None = None  #: HTTP status of the answer; None: there was none
    #: The answer was handed whole to an open connection; None: not yet, or the sandbox died before it could tell.
    delivered: bool | None = None


class Invoice:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[int, Line] = {}
        self._credits: Counter[str] = Counter()
        self._origins: dict[str, str] = {}  # fingerprint of a picture made here -> of the photograph behind it
        self._asked: Counter[tuple[str | None, str | None]] = Counter()  # (prompt, picture) -> how often so far
        self._last_number = 0  # never starts again, so that a late change cannot land on a new line
        self._load()
        self._file = path.open("a", encoding="utf-8")
        self._file.write("\n")  # ends a line that a kill may have cut off

    @property
    def lines(self) -> list[Line]:
        """In the order of arrival."""
        return list(self._lines.values())

    def line(self, number: int) -> Line | None:
        return self._lines.get(number)

    def open_line(self, provider: Provider, operation: str, request_id: str, prompt: str | None) -> Line:
        self._last_number += 1
        line = Line(
            number=self._last_number,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            provider=provider,
            operation=operation,
            request_id=request_id,
            prompt=prompt,
            prompt_sha256=fingerprint.of_text(prompt) if prompt is not None else None,
        )
        self._lines[line.number] = line
        self._write({key: value for key, value in dataclasses.asdict(line).items() if value not in (None, [])})
        return line

    def note(self, line: Line, **changes: Any) -> None:
        """Change fields of a line and write the change down."""
        for name, value in changes.items():
            setattr(line, name, value)
        self._write({"number": line.number, **changes})

    def accept(self, line: Line, *, work: str, credit_count: int, **changes: Any) -> None:
        """Take the work on: from here on it is billed, whatever becomes of the answer."""
        cost = micros(line.provider, credit_count)
        self.note(line, accepted=True, work=work, credits=credit_count, cost_micros=cost, **changes)
        self._credits[line.provider] += credit_count

    def refund(self, line: Line) -> None:
        """The work was taken on and failed for a reason that the provider does not charge."""
        self._credits[line.provider] -= line.credits
        self.note(line, credits=0, cost_micros=0)

    def set_picture(self, line: Line, picture: bytes) -> None:
        """The first picture that came with the call."""
        name = fingerprint.of_picture(picture)
        self.note(line, picture=name, origin=self._origins.get(name, name))

    def set_output(self, line: Line, picture: bytes) -> None:
        name = fingerprint.of_picture(picture)
        if line.origin is not None and name != line.picture:
            self._origins[name] = line.origin
        self.note(line, output=name)

    def occurrence(self, line: Line) -> int:
        """0 for the first call with this prompt and this picture, then 1 ...; to be asked once for each call."""
        self._asked[line.prompt, line.picture] += 1
        return self._asked[line.prompt, line.picture] - 1

    def credits_spent(self, provider: Provider) -> int:
        return self._credits[provider]

    def clear(self) -> None:
        self._lines.clear()
        self._credits.clear()
        self._origins.clear()
        self._asked.clear()
        self._file.truncate(0)

    def close(self) -> None:
        self._file.close()

    def _write(self, change: dict[str, Any]) -> None:
        self._file.write(json.dumps(change, ensure_ascii=False) + "\n")
        self._file.flush()  # not fsync: the invoice must outlive this process, not the machine

    def _load(self) -> None:
        if not self._path.exists():
            return
        merged: dict[int, dict[str, Any]] = {}
        for text in self._path.read_text("utf-8").splitlines():
            try:
                change = json.loads(text)
            except ValueError:
                continue  # empty, or cut off by a kill in the middle of a write
            merged.setdefault(change["number"], {}).update(change)
        for number in sorted(merged):
            if "at" not in merged[number]:
                continue  # a late change to a line that was cleared
            line = Line(**merged[number])
            self._lines[line.number] = line
            self._last_number = line.number
            self._credits[line.provider] += line.credits
            if line.output is not None:
                self._asked[line.prompt, line.picture] += 1
            if line.output and line.origin and line.output != line.picture:
                self._origins[line.output] = line.origin


def totals(lines: Iterable[Line]) -> dict[str, Any]:
    """Sums over the lines, by provider."""
    by_provider: dict[str, dict[str, int]] = {}
    for line in lines:
        sums = by_provider.setdefault(
            line.provider, dict.fromkeys(("calls", "accepted", "credits", "cost_micros", "undelivered"), 0)
        )
        sums["calls"] += 1
        sums["accepted"] += line.accepted
        sums["credits"] += line.credits
        sums["cost_micros"] += line.cost_micros
        sums["undelivered"] += line.accepted and line.delivered is False
    return by_provider


def purchases(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """How often each piece of work was bought: this work, for this photograph, with these words."""
    counts = Counter((line.provider, line.work, line.origin, line.prompt) for line in lines if line.credits)
    return [
        {"provider": provider, "work": work, "origin": origin, "prompt": prompt, "times": times}
        for (provider, work, origin, prompt), times in counts.items()
    ]
