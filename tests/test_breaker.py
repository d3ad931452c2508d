from __future__ import annotations

import pytest

from breaker import Breaker, BreakerMode


def opened(now: float = 0) -> Breaker:
    breaker = Breaker()
    for _ in range(Breaker.FAILURES_TO_OPEN):
        breaker.failed("down", now=now, is_probe=False)
    return breaker


def probe(breaker: Breaker) -> bool:
    assert breaker.may_send(breaker.opens_at)
    return breaker.sent()


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    news = [breaker.failed("down", now=0, is_probe=False) for _ in range(Breaker.FAILURES_TO_OPEN)]
    assert news == [False] * (Breaker.FAILURES_TO_OPEN - 1) + [True]
    assert not breaker.may_send(Breaker.FIRST_PAUSE_S - 0.1)
    assert breaker.may_send(Breaker.FIRST_PAUSE_S)
    assert breaker.reason == "down"


def test_an_answer_between_failures_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(10):
        breaker.failed("down", now=0, is_probe=False)
        breaker.answered(is_probe=False)
    assert breaker.mode is BreakerMode.CLOSED


def test_an_account_error_opens_it_at_once() -> None:
    breaker = Breaker()
    assert breaker.locked_out("no credit", now=0, is_probe=False)
    assert breaker.opens_at == Breaker.ACCOUNT_PAUSE_S


def test_one_probe_goes_at_a_time() -> None:
    breaker = opened()
    assert probe(breaker)
    assert not breaker.may_send(1e9)


def test_an_answered_probe_closes_it() -> None:
    breaker = opened()
    probe(breaker)
    assert breaker.answered(is_probe=True)
    assert breaker.may_send(0)
    assert breaker.reason is None
    assert not breaker.failed("down", now=0, is_probe=False), "the count begins anew"


def test_failing_probes_make_the_pause_longer_up_to_a_bound() -> None:
    breaker = opened()
    pauses = []
    for _ in range(6):
        now = breaker.opens_at
        breaker.failed("down", now=now, is_probe=probe(breaker))
        pauses.append(breaker.opens_at - now)
    assert pauses == [10, 20, 40, 60, 60, 60]


def test_an_answer_to_what_was_sent_before_it_opened_does_not_close_it() -> None:
    breaker = opened()
    assert not breaker.answered(is_probe=False)
    probe(breaker)
    assert not breaker.answered(is_probe=False)
    assert breaker.mode is BreakerMode.PROBING


@pytest.mark.parametrize("kind", ["failed", "locked_out"])
def test_a_failure_of_what_was_sent_before_it_opened_prolongs_nothing(kind: str) -> None:
    breaker = opened()
    assert not getattr(breaker, kind)("down", now=4, is_probe=False)
    assert breaker.opens_at == Breaker.FIRST_PAUSE_S


def test_an_abandoned_probe_leaves_room_for_another() -> None:
    breaker = opened()
    breaker.abandoned(is_probe=probe(breaker))
    assert probe(breaker)
