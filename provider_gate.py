"""The gate that every paid request of this process to one provider passes: how many at once, how fast, or none at all.

One gate for a provider, whatever the slot, the step or the run: what one call learns, all others heed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from breaker import Breaker, BreakerMode
from errors import AccountError, ChargeUnknownError, ProviderError, ProviderPausedError, RateLimitError, RetryableError
from limits import ConcurrencyLimit, Pace, RetryBudget

log = logging.getLogger(__name__)

LONGEST_SHARED_WAIT_S = 60.0  # that one 429 may ask of all; a longer one is a mistake, or a quota worth a look a minute
FIRST_WAIT_S = 1.0  # after a 429 that does not say how long; doubled with each further one
SHORT_WAIT_S = 5.0  # is waited out in the slots of a worker
TASKS_PER_PLACE = 4  # running tasks for each request that may be in flight: far above what a worker's slots start


class Intake(IntEnum):
    """What work makes sense to begin, from least to most."""

    NONE = 0
    ONE = 1  # to see whether the provider is back
    FREELY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """One provider as this process sees it."""

    provider: str
    mode: BreakerMode
    limit: int  #: requests that may be in flight
    in_flight: int
    waiting: int
    per_s: float | None  #: requests a second, once a 429 has shown that there is a bound
    resumes_in_s: float  #: 0: requests go now
    reason: str | None  #: why it is paused, in one sentence fit for an operator


@dataclass(slots=True, kw_only=True, eq=False)
class Permit:
    """Leave to send one request. It is given back exactly once; a running task may be counted beyond that."""

    sent_at: float
    is_probe: bool
    is_settled: bool = False  #: the provider's word on this request has come; it no longer holds a place
    is_ended: bool = False


class ProviderGate:
    def __init__(self, provider: str, *, start: int, most: int, patience_s: float) -> None:
        """
        Args:
            start: Requests in flight at first.
            most: Requests in flight at most, whatever the provider takes.
            patience_s: The longest that a request waits for its place.
        """
        self.provider = provider
        self.patience_s = patience_s
        self.repeats = RetryBudget()
        self._limit = ConcurrencyLimit(start=start, most=most)
        self._most_tasks = most * TASKS_PER_PLACE
        self._pace = Pace()
        self._breaker = Breaker()
        self._not_before = -math.inf
        self._refusals_in_a_row = 0
        self._in_flight = 0
        self._unended = 0  #: requests and running tasks
        self._waiting: deque[asyncio.Future[Permit]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> ProviderState:
        resumes_in_s = self._resumes_at() - _now()
        return ProviderState(
            provider=self.provider,
            mode=self._breaker.mode,
            limit=self._limit.places,
            in_flight=self._in_flight,
            waiting=len(self._waiting),
            per_s=self._pace.per_s,
            resumes_in_s=max(0.0, resumes_in_s),
            reason=self._breaker.reason,
        )

    @property
    def intake(self) -> Intake:
        """During a long wait, work is better off in the queue than in a slot."""
        if self._breaker.mode is BreakerMode.CLOSED:
            short_s = min(SHORT_WAIT_S, self.patience_s)
            return Intake.FREELY if self._not_before - _now() <= short_s else Intake.NONE
        return Intake.ONE if self._resumes_at() <= _now() else Intake.NONE

    # -- getting a permit

    def check(self) -> None:
        """Raise ProviderPausedError when `enter` would, as far as is known yet: nothing needs to be prepared then."""
        wait_s = self._resumes_at() - _now()
        is_open = self._breaker.mode is BreakerMode.OPEN and wait_s > 0
        if is_open or wait_s > self.patience_s:
            raise self._paused(self._breaker.reason or "it asked for fewer requests")

    async def enter(self) -> Permit:
        """Wait for a place, first come, first served. The caller settles and ends the permit whatever happens.

        Raises:
            ProviderPausedError: It takes nothing for now, or no place came free in time.
        """
        self.check()
        turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        self._pace.busy(_now())
        self._waiting.append(turn)
        self._admit()
        try:
            async with asyncio.timeout(self.patience_s):
                return await turn
        except TimeoutError as error:
            if _has_result(turn):  # in the very last moment
                return turn.result()
            raise self._paused("no place came free in time") from error
        except asyncio.CancelledError:
            if _has_result(turn):
                self.ended(turn.result())
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self._note_idleness()

    def _admit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0].done():  # it is leaving, and gone once its own task has run
                self._waiting.popleft()
                continue
            now = _now()
            if self._in_flight >= self._limit.places or self._unended >= self._most_tasks:
                return
            if self._breaker.mode is BreakerMode.PROBING:
                return
            at = max(self._not_before, self._pace.next_at, self._resumes_at())
            if at > now:
                self._timer = asyncio.get_running_loop().call_at(at, self._admit)
                return
            self._in_flight += 1
            self._unended += 1
            self._pace.sent(now)
            self._waiting.popleft().set_result(Permit(sent_at=now, is_probe=self._breaker.sent()))

    # -- what became of a request

    def accepted(self, permit: Permit) -> None:
        """The provider has taken the request, or turned it down for what it asks: either way it is at work."""
        if not self._settle(permit):
            return
        now = _now()
        self._refusals_in_a_row = 0
        self._limit.accepted(in_flight=self._in_flight + 1)
        self._pace.accepted()
        if self._breaker.answered(is_probe=permit.is_probe):
            self._limit.restart()
            paused_s = round(now - self._breaker.opened_at, 3)
            log.info("provider.resumed", extra={"provider": self.provider, "paused_s": paused_s})
        self._admit()

    def failed(self, permit: Permit, error: BaseException) -> BaseException:
        """Learn from the error of a request; the error to raise in its place, mostly the same.

        The call that finds the account locked tells so. Others that find the same are told that the provider is paused:
        what they are for can wait until an operator has acted.
        """
        now = _now()
        if permit.is_settled or not isinstance(error, ProviderError):
            self._abandon(permit)
            return error
        match error:
            case RateLimitError():
                self._slow_down(permit, error, now)
            case AccountError():
                was_closed = self._breaker.mode is BreakerMode.CLOSED
                self._settle(permit)
                self._pause_if(self._breaker.locked_out(str(error), now=now, is_probe=permit.is_probe), error)
                if not was_closed:
                    return self._paused(str(error))
            case RetryableError() | ChargeUnknownError():
                self._settle(permit)
                self._pause_if(self._breaker.failed(str(error), now=now, is_probe=permit.is_probe), error)
            case _:
                self.accepted(permit)
        self._admit()
        return error

    def ended(self, permit: Permit) -> None:
        """Nothing of this request is under way any more."""
        if not permit.is_ended:
            self._abandon(permit)
            permit.is_ended = True
            self._unended -= 1
            self._admit()

    def _slow_down(self, permit: Permit, error: RateLimitError, now: float) -> None:
        self._settle(permit)
        self._pace.not_taken()
        is_news = self._limit.refused(sent_at=permit.sent_at, now=now)
        if is_news:
            self._refusals_in_a_row += 1
            self._pace.refused(now)
        asked_s = error.retry_after
        if asked_s is None:
            asked_s = FIRST_WAIT_S * 2.0 ** min(self._refusals_in_a_row - 1, 10)
        self._not_before = max(self._not_before, now + min(asked_s, LONGEST_SHARED_WAIT_S))
        if is_news:
            state = self.state
            fields = {"provider": self.provider, "limit": state.limit, "per_s": state.per_s, "wait_s": asked_s}
            log.warning("provider.slowed", extra=fields)
        if is_news or permit.is_probe:
            self._pause_if(self._breaker.failed(str(error), now=now, is_probe=permit.is_probe), error)

    def _pause_if(self, opened: bool, error: ProviderError) -> None:
        """When the breaker has opened, nobody waits any longer: the work is better off in the queue."""
        if not opened:
            return
        pause_s = round(self.state.resumes_in_s, 3)
        fields = {"provider": self.provider, "reason": error.code, "pause_s": pause_s}
        log.warning("provider.paused", extra=fields)
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(self._paused(str(error)))

    def _abandon(self, permit: Permit) -> None:
        """The request ended, and tells nothing of the provider."""
        if self._settle(permit):
            self._breaker.abandoned(is_probe=permit.is_probe)
            self._admit()

    def _settle(self, permit: Permit) -> bool:
        """Give its place back. False when that was done before."""
        if permit.is_settled:
            return False
        permit.is_settled = True
        self._in_flight -= 1
        self._note_idleness()
        return True

    def _note_idleness(self) -> None:
        if not self._in_flight and not self._waiting:
            self._pace.idle(_now())

    def _resumes_at(self) -> float:
        if self._breaker.mode is BreakerMode.CLOSED:
            return self._not_before
        return max(self._breaker.opens_at, self._not_before)

    def _paused(self, reason: str) -> ProviderPausedError:
        return ProviderPausedError(f"{self.provider} takes nothing for now: {reason}", provider=self.provider)


def _has_result(turn: asyncio.Future[Permit]) -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None


def _now() -> float:
    return asyncio.get_running_loop().time()
