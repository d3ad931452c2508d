"""How much a provider takes, learnt from its 429s: arithmetic alone, with every time (seconds, monotonic) passed in.

Providers limit what runs at once, what begins in a minute, or both, and tell neither. So both are learnt: the number
of calls in flight as TCP learns its window (RFC 5681: slow start, then additive increase, multiplicative decrease), and
the pace of calls from how many were taken in the time before a 429. Without the pace a provider with quick answers and
a limit per minute would refuse every few calls, since even one call in flight can be too many for it.
"""

from __future__ import annotations

import math
from collections import deque


class ConcurrencyLimit:
    """Calls that may be in flight: 1 to `most`."""

    def __init__(self, *, start: int, most: int) -> None:
        self._most = max(1, most)
        self._limit = float(min(max(1, start), self._most))
        self._slow_start_below = float(self._most)
        self._reduced_at = -math.inf

    @property
    def places(self) -> int:
        return int(self._limit)

    def accepted(self, *, in_flight: int) -> None:
        """A call succeeded; `in_flight` counts it still. A limit that is not made use of has proved nothing."""
        if in_flight * 2 < self.places:
            return
        growth = 1.0 if self._limit < self._slow_start_below else 1.0 / self._limit
        self._limit = min(self._limit + growth, self._most)

    def refused(self, *, sent_at: float, now: float) -> bool:
        """Halve it. False, and nothing is done, for a call sent before the last time: that is the same news again."""
        if sent_at <= self._reduced_at:
            return False
        self._reduced_at = now
        self._limit = self._slow_start_below = max(1.0, self._limit / 2)
        return True

    def restart(self) -> None:
        """After an outage: begin with one call, and soon be back at half of what was possible before."""
        self._slow_start_below = max(self._slow_start_below / 2, self._limit / 2, 1.0)
        self._limit = 1.0


class Pace:
    """Calls per second, unbounded until the first 429; then just below what was taken, and slowly more again.

    A 429 after a long time without one tells of a burst: the pace is that of the last second, if it was one at all. Any
    further 429 tells what was taken since the last one. Seconds are counted on a clock that stands still while nothing
    is asked for: a shop that sells little must not look like a provider that takes little.
    """

    RECENT_S = 90.0  # between two 429s of one limit: providers count by the second or by the minute
    BURST_S = 1.0
    CALLS_IN_A_BURST = 10  # fewer say nothing of a pace
    FAR_BELOW = 0.8  # of a pace; nearer to it, what was taken is no better guess: it holds the waits after 429s as well
    FORGOTTEN_S = 3600.0  # without a 429
    CUT = 0.95
    SLOWEST_PER_S = 1 / 60
    CALLS_PER_GROWTH = 20
    GROWTH = 0.001  # times the number of growths since the last 429: 5 % after 200 calls, 100 % after 750
    FAST_GROWTH = 0.05  # while far below the pace that was refused last
    MAX_COUNTED = 4096  # calls that are remembered; with more, too low a pace is learnt, which then grows

    def __init__(self) -> None:
        self._per_s: float | None = None
        self._next_at = -math.inf
        self._refused_at = -math.inf
        self._refused_at_clock_s = 0.0
        self._refused_per_s = 0.0
        self._growths = 0
        self._accepted_since_growth = 0
        self._clock_s = 0.0
        self._running_since: float | None = None
        self._taken_at: deque[float] = deque(maxlen=self.MAX_COUNTED)

    @property
    def per_s(self) -> float | None:
        return self._per_s

    @property
    def next_at(self) -> float:
        """When the next call may be sent."""
        return self._next_at

    def busy(self, now: float) -> None:
        if self._running_since is None:
            self._running_since = now

    def idle(self, now: float) -> None:
        self._clock_s = self._clock(now)
        self._running_since = None

    def sent(self, now: float) -> None:
        """A call goes. It counts as taken until it is said not to be: answers may take minutes."""
        self._taken_at.append(self._clock(now))
        if now - self._refused_at > self.FORGOTTEN_S:
            self._per_s = None
        if self._per_s is not None:
            gap_s = 1 / self._per_s
            # One gap may be caught up with: an event loop is often a little late.
            self._next_at = max(self._next_at, now - gap_s) + gap_s

    def not_taken(self) -> None:
        """One of the last calls was not taken after all."""
        if self._taken_at:
            self._taken_at.pop()

    def accepted(self) -> None:
        if self._per_s is None:
            return
        self._accepted_since_growth += 1
        if self._accepted_since_growth >= self.CALLS_PER_GROWTH:
            self._accepted_since_growth = 0
            self._growths += 1
            is_far_below = self._per_s < self.FAR_BELOW * self._refused_per_s
            self._per_s *= 1 + (self.FAST_GROWTH if is_far_below else self.GROWTH * self._growths)

    def refused(self, now: float) -> None:
        """Fall below what was taken; once for all calls of one round trip."""
        clock_s = self._clock(now)
        is_recent = now - self._refused_at <= self.RECENT_S
        span_s = max(clock_s - self._refused_at_clock_s, self.BURST_S) if is_recent else self.BURST_S
        while self._taken_at and self._taken_at[0] < clock_s - span_s:
            self._taken_at.popleft()
        taken = len(self._taken_at)
        self._refused_at, self._refused_at_clock_s = now, clock_s
        self._growths = self._accepted_since_growth = 0
        self._refused_per_s = self._per_s or 0.0
        if is_recent or taken >= self.CALLS_IN_A_BURST:
            measured = max(taken, 1) / span_s
            if self._per_s is None or measured < self.FAR_BELOW * self._per_s:
                self._per_s = measured
        if self._per_s is not None:
            self._per_s = max(self.CUT * self._per_s, self.SLOWEST_PER_S)

    def _clock(self, now: float) -> float:
        return self._clock_s + (0.0 if self._running_since is None else now - self._running_since)


class RetryBudget:
    """Repeats are paid from what first attempts earn: a provider in trouble is not asked several times as often.

    The rule of Finagle's RetryBudget (https://twitter.github.io/finagle/guide/Clients.html#retry-budget).
    """

    SHARE = 0.2  # repeats for each call
    MOST = 10.0  # saved up, so that a few quick failures after a quiet time are repeated all the same

    def __init__(self) -> None:
        self._saved = self.MOST

    def earn(self) -> None:
        """For a call that is made for the first time."""
        self._saved = min(self._saved + self.SHARE, self.MOST)

    def spend(self) -> bool:
        """Whether one repeat is still in it."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
