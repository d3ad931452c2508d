"""The circuit breaker of one provider: whether anything is sent at all. Times are seconds, monotonic, passed in.

CLOSED ── failures in a row, or an account error ──▶ OPEN ── time is up, one call goes ──▶ PROBING
   ▲                                                   ▲                                     │
   └────────────── the probe is answered ──────────────┼─────────────────────────────────────┤
                                                       └────────── the probe fails ──────────┘
"""

from __future__ import annotations

import math
from enum import StrEnum


class BreakerMode(StrEnum):
    CLOSED = "closed"  # calls go
    OPEN = "open"  # none goes until `opens_at`; then one does
    PROBING = "probing"  # one is out; its outcome decides


class Breaker:
    FAILURES_TO_OPEN = 5  # in a row: by chance that is rare even where a third of the calls fails
    FIRST_PAUSE_S = 5.0
    LONGEST_PAUSE_S = 60.0
    ACCOUNT_PAUSE_S = 60.0  # a person has to act, and then should not wait long

    def __init__(self) -> None:
        self.mode = BreakerMode.CLOSED
        self.reason: str | None = None  #: why it opened, in one sentence
        self.opens_at = -math.inf  #: when one call may go again
        self.opened_at = -math.inf
        self._failures = 0
        self._pause_s = self.FIRST_PAUSE_S

    def may_send(self, now: float) -> bool:
        match self.mode:
            case BreakerMode.CLOSED:
                return True
            case BreakerMode.OPEN:
                return now >= self.opens_at
            case BreakerMode.PROBING:
                return False

    def sent(self) -> bool:
        """Whether the call that goes now is a probe."""
        if self.mode is BreakerMode.CLOSED:
            return False
        self.mode = BreakerMode.PROBING
        return True

    def answered(self, *, is_probe: bool) -> bool:
        """Whether this closed it. An answer to what was sent before it opened is no news."""
        if self.mode is BreakerMode.CLOSED:
            self._failures = 0
        elif is_probe:
            self.mode, self.reason = BreakerMode.CLOSED, None
            self._failures, self._pause_s = 0, self.FIRST_PAUSE_S
            return True
        return False

    def failed(self, reason: str, *, now: float, is_probe: bool) -> bool:
        """Whether this opened it."""
        if is_probe:
            self._pause_s = min(self._pause_s * 2, self.LONGEST_PAUSE_S)
        elif self.mode is BreakerMode.CLOSED:
            self._failures += 1
            if self._failures < self.FAILURES_TO_OPEN:
                return False
            self.opened_at = now
        else:
            return False
        self._open(reason, now + self._pause_s)
        return True

    def locked_out(self, reason: str, *, now: float, is_probe: bool) -> bool:
        """Whether this opened it: an account error needs no second one."""
        if self.mode is BreakerMode.CLOSED:
            self.opened_at = now
        elif not is_probe:
            return False
        self._open(reason, now + self.ACCOUNT_PAUSE_S)
        return True

    def abandoned(self, *, is_probe: bool) -> None:
        """A call ended without telling anything of the provider; another may be the probe."""
        if is_probe:
            self.mode = BreakerMode.OPEN

    def _open(self, reason: str, opens_at: float) -> None:
        self.mode, self.reason, self.opens_at = BreakerMode.OPEN, reason, opens_at
