from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from limits import ConcurrencyLimit, Pace, RetryBudget

START, MOST = 16, 64


def limit_after(successes: int, limit: ConcurrencyLimit) -> int:
    for _ in range(successes):
        limit.accepted(in_flight=limit.places)
    return limit.places


@given(start=st.integers(-5, 500), most=st.integers(-5, 300), refused=st.lists(st.booleans(), max_size=300))
def test_the_limit_is_never_below_one_and_never_above_its_bound(start: int, most: int, refused: list[bool]) -> None:
    limit = ConcurrencyLimit(start=start, most=most)
    for moment, is_refused in enumerate(refused):
        if is_refused:
            limit.refused(sent_at=moment, now=moment + 0.5)
        else:
            limit.accepted(in_flight=limit.places)
        assert 1 <= limit.places <= max(1, most)


def test_it_doubles_in_a_round_trip_until_the_first_refusal() -> None:
    assert limit_after(START, ConcurrencyLimit(start=START, most=MOST)) == 2 * START


def test_a_refusal_halves_it_and_a_window_of_successes_adds_one() -> None:
    limit = ConcurrencyLimit(start=START, most=MOST)
    assert limit.refused(sent_at=0, now=1)
    assert limit.places == 8
    assert limit_after(9, limit) == 9


def test_refusals_of_one_round_trip_count_once() -> None:
    limit = ConcurrencyLimit(start=START, most=MOST)
    news = [limit.refused(sent_at=sent_at, now=1 + sent_at) for sent_at in (0, 0.1, 0.2, 0.9, 1.1)]
    assert news == [True, False, False, False, True]
    assert limit.places == START // 4


def test_an_idle_limit_does_not_grow() -> None:
    limit = ConcurrencyLimit(start=START, most=MOST)
    for _ in range(100):
        limit.accepted(in_flight=2)
    assert limit.places == START


def test_after_an_outage_it_begins_with_one_and_is_soon_back() -> None:
    limit = ConcurrencyLimit(start=START, most=MOST)
    limit.restart()
    assert limit.places == 1
    assert limit_after(40, limit) >= START


def test_a_pace_is_learnt_from_what_was_taken_before_a_refusal() -> None:
    pace = Pace()
    pace.busy(0)
    for moment in range(100):
        pace.sent(moment / 10)
        pace.accepted()
    assert pace.per_s is None
    assert pace.next_at < 0
    pace.refused(10)
    assert pace.per_s is not None
    assert 9 <= pace.per_s <= 10


def test_a_pace_is_not_learnt_from_quiet_hours() -> None:
    """Ten calls a second for two seconds, an hour of nothing between them."""
    pace = Pace()
    for start in (0, 3600):
        pace.busy(start)
        for moment in range(10):
            pace.sent(start + moment / 10)
        pace.idle(start + 1)
    pace.busy(7200)
    pace.refused(7200)
    assert pace.per_s is not None
    assert 9 <= pace.per_s <= 10


@given(steps=st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=200))
@settings(max_examples=50)
def test_a_pace_stays_positive_whatever_happens(steps: list[tuple[bool, float]]) -> None:
    pace, moment = Pace(), 0.0
    pace.busy(moment)
    for is_refused, pause_s in steps:
        moment += pause_s
        pace.sent(moment)
        if is_refused:
            pace.not_taken()
            pace.refused(moment)
        else:
            pace.accepted()
        assert pace.per_s is None or pace.per_s >= Pace.SLOWEST_PER_S


def test_a_pace_is_forgotten_little_by_little() -> None:
    pace = Pace()
    pace.busy(0)
    for _ in range(Pace.CALLS_IN_A_BURST):
        pace.sent(0)
    pace.refused(1)
    slow = pace.per_s
    assert slow is not None
    growth = []
    for _ in range(750):
        pace.accepted()
        growth.append((pace.per_s or 0) / slow)
    assert growth[99] < 1.02
    assert growth[-1] > 1.9
    pace.sent(1 + Pace.FORGOTTEN_S)
    assert pace.per_s is not None
    pace.sent(2 + Pace.FORGOTTEN_S)
    assert pace.per_s is None


def test_one_refusal_of_a_few_calls_says_nothing_of_a_pace() -> None:
    """A hiccup of the provider, or another worker at the same account, must not slow a shop for long."""
    pace = Pace()
    pace.busy(0)
    for moment in range(9):
        pace.sent(moment)
    pace.refused(9)
    assert pace.per_s is None


def test_the_pace_is_that_between_two_refusals() -> None:
    """Ten calls a minute: the burst looks like ten a second, the minute after it does not."""
    pace = Pace()
    pace.busy(0)
    for moment in (0.0, 60.0):
        for call in range(10):
            pace.sent(moment + call / 20)
        pace.refused(moment + 0.5)
    assert pace.per_s is not None
    assert 9 < 60 * pace.per_s < 20


@given(calls=st.integers(0, 500))
def test_repeats_are_at_most_a_fifth_of_the_calls(calls: int) -> None:
    budget = RetryBudget()
    repeats = 0
    for _ in range(calls):
        budget.earn()
        repeats += budget.spend() + budget.spend()
    assert repeats <= RetryBudget.MOST + RetryBudget.SHARE * calls
