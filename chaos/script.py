"""What the doors ask before they let a request pass, and the log in which they write what passed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from chaos.faults import Fault, Moment

#: What becomes of a request: it passes (None), meets a fault, or its worker is killed.
Deed = Fault | Moment | None


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request of a worker and how it went."""

    kind: str
    number: int  #: the how-manieth of its kind, from 1
    path: str  #: without the query, which may be signed
    fields: dict[str, Any] = field(default_factory=dict)  #: of a JSON body
    deed: Deed = None
    status: int | None = None  #: that the server answered; None: the request never got there, or no answer came
    answer_sha256: str | None = None  #: of the body that the server answered

    @property
    def done(self) -> bool:
        """The server did what was asked for, whether or not the worker got to know."""
        return self.status is not None and self.status < 300


class Script(Protocol):
    def open_exchange(self, kind: str, path: str, fields: dict[str, Any]) -> Exchange:
        """Count and log a request; its `deed` says what becomes of it."""
        ...

    def kill_worker(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Cue:
    """The request that is struck, and by what."""

    kind: str
    number: int
    deed: Deed

    def __str__(self) -> str:
        what = f"killed when {self.deed}" if isinstance(self.deed, Moment) else str(self.deed)
        return f"{self.kind} {self.number}: {what}"


@dataclass(slots=True, kw_only=True)
class OneCue:
    """A script in which at most one thing happens."""

    cue: Cue | None
    kill: Callable[[], None]
    log: list[Exchange] = field(default_factory=list)
    struck_at: float | None = None  #: monotonic
    _counts: Counter[str] = field(default_factory=Counter)

    def open_exchange(self, kind: str, path: str, fields: dict[str, Any]) -> Exchange:
        self._counts[kind] += 1
        exchange = Exchange(kind=kind, number=self._counts[kind], path=path, fields=fields)
        if self.cue is not None and (self.cue.kind, self.cue.number) == (kind, exchange.number):
            exchange.deed = self.cue.deed
            self.struck_at = time.monotonic()
        self.log.append(exchange)
        return exchange

    def kill_worker(self) -> None:
        self.kill()
