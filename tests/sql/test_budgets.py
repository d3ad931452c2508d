"""The cap of a day: reserved before a call, settled after it, never passed."""

from __future__ import annotations

from tests.sql.conftest import Connect
from tests.sql.database import CUTOUT_MICROS, SCENE_MICROS, SCENES, Database, Run
from tests.sql.outcomes import OVER_BUDGET, error_of
from tests.sql.races import all_at_once, outcome_of, overtake


def cap(micros: int) -> dict[str, int]:
    return {"day": micros}


def test_money_is_reserved_at_the_beginning_and_settled_at_the_end(database: Database) -> None:
    run = database.claimed_product()
    call = database.buy(run, "cutout")
    assert database.budget() == (CUTOUT_MICROS, 0)
    database.finish_call(call, cost_micros=CUTOUT_MICROS + 1)
    assert database.budget() == (0, CUTOUT_MICROS + 1)


def test_a_cap_may_be_used_up_to_the_last_micro_dollar(database: Database) -> None:
    run = database.claimed_product()
    assert database.begin(run, *SCENES, limits=cap(4 * SCENE_MICROS))[3]["verdict"] == "buy"


def test_above_the_cap_nothing_is_begun_at_all(database: Database) -> None:
    run = database.claimed_product()
    error = error_of(lambda: database.begin(run, *SCENES, limits=cap(4 * SCENE_MICROS - 1)))
    assert error.sqlstate == OVER_BUDGET
    assert str(error.diag.message_primary) == (
        "The budget of the day is used up: $0.12 of $0.16 is spent or reserved, and the next picture costs $0.04. "
        "It is renewed at 0:00 UTC."
    )
    assert database.budget() == (0, 0)
    assert database.value("select count(*) from public.calls") == 0
    assert database.value("select count(*) from public.steps") == 0


def test_what_was_spent_counts_like_what_is_reserved(database: Database) -> None:
    run = database.claimed_product()
    database.finish_call(database.buy(run, "cutout"), cost_micros=90)
    limit = cap(90 + SCENE_MICROS - 1)
    assert error_of(lambda: database.begin(run, SCENES[0], limits=limit)).sqlstate == OVER_BUDGET


def test_a_refusal_before_work_gives_the_money_back(database: Database) -> None:
    run = database.claimed_product()
    database.finish_call(database.buy(run, "cutout"), "failed", repeatable=True)
    assert database.begin(run, "cutout", limits=cap(CUTOUT_MICROS))[0]["verdict"] == "buy"


def test_what_is_reused_costs_nothing_and_passes_a_used_up_cap(database: Database) -> None:
    run = database.claimed_product()
    database.do_step(run, "cutout")
    assert database.begin(run, "cutout", limits=cap(0))[0]["verdict"] == "reuse"


def test_without_a_limit_money_is_counted_all_the_same(database: Database) -> None:
    run = database.claimed_product()
    database.do_step(run, "cutout")
    assert database.row(
        "select scope, period = (now() at time zone 'utc')::date, limit_micros from public.budgets where scope = 'day'"
    ) == (
        "day",
        True,
        None,
    )
    assert database.budget() == (0, CUTOUT_MICROS)


def test_a_call_is_settled_in_the_day_in_which_it_was_reserved(database: Database) -> None:
    run = database.claimed_product()
    call = database.buy(run, "cutout")
    database.execute("update public.budgets set period = period - 1")
    database.execute("update public.calls set created_at = created_at - interval '1 day'")
    database.finish_call(call)
    assert database.rows(
        "select distinct period < (now() at time zone 'utc')::date, spent_micros from public.budgets"
    ) == [(True, CUTOUT_MICROS)]


def test_fifty_beginnings_at_once_cannot_pass_the_cap(connect: Connect, database: Database) -> None:
    for _ in range(50):
        database.create_product()
    runs = database.claim(places=50)
    limit = cap(10 * CUTOUT_MICROS)

    def begin(number: int, worker: Database) -> str:
        outcome = outcome_of(worker, lambda connection: connection.begin(runs[number], "cutout", limits=limit))
        return str(getattr(outcome, "sqlstate", "begun"))

    outcomes = all_at_once([connect() for _ in range(50)], begin)

    assert sorted(outcomes) == [OVER_BUDGET] * 40 + ["begun"] * 10
    assert database.budget() == (10 * CUTOUT_MICROS, 0)
    assert database.value("select count(*) from public.calls") == 10


def test_the_last_money_is_given_to_one_of_two(connect: Connect, database: Database) -> None:
    one, other = database.claimed_product(), database.claimed_product()

    def begin(run: Run, connection: Database) -> object:
        return connection.begin(run, "cutout", limits=cap(CUTOUT_MICROS))

    first, second = overtake((connect(), lambda c: begin(one, c)), (connect(), lambda c: begin(other, c)))
    assert first[0]["verdict"] == "buy"
    assert getattr(second, "sqlstate", second) == OVER_BUDGET
