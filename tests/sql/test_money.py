"""Three caps on money, each reserved before a call and settled after it, and what the shop is told of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import CUTOUT_MICROS, SCENE_MICROS, SCENES, Database, Run
from tests.sql.outcomes import OVER_BUDGET, error_of
from tests.sql.races import all_at_once, outcome_of

SCOPES = ["day", "owner", "run"]


def budgets(database: Database) -> dict[str, tuple[int, int]]:
    """(reserved, spent) by scope, all keys and days together."""
    rows = database.rows(
        "select scope, sum(reserved_micros)::bigint, sum(spent_micros)::bigint from public.budgets group by scope"
    )
    return {scope: (reserved, spent) for scope, reserved, spent in rows}


def user(owner: Database) -> str:
    user_id = str(uuid4())
    owner.execute("insert into auth.users (id) values (%s)", user_id)
    return user_id


def claimed_product_of(database: Database, owner_id: str) -> Run:
    return database.claimed_product(product={"owner_id": owner_id})


def test_a_call_is_reserved_and_settled_in_all_three(database: Database) -> None:
    run = database.claimed_product()
    call = database.buy(run, "cutout")
    assert budgets(database) == dict.fromkeys(SCOPES, (CUTOUT_MICROS, 0))
    database.finish_call(call, cost_micros=7)
    assert budgets(database) == dict.fromkeys(SCOPES, (0, 7))


@pytest.mark.parametrize("scope", SCOPES)
def test_each_cap_holds_to_the_last_micro_dollar(database: Database, scope: str) -> None:
    run = database.claimed_product()
    assert error_of(lambda: database.begin(run, *SCENES, limits={scope: 4 * SCENE_MICROS - 1})).sqlstate == OVER_BUDGET
    assert budgets(database) == {}
    assert database.begin(run, *SCENES, limits={scope: 4 * SCENE_MICROS})[3]["verdict"] == "buy"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_refusal_tells_limit_spending_and_renewal(database: Database, scope: str) -> None:
    run = database.claimed_product()
    database.begin(run, "cutout")
    refusal = error_of(lambda: database.begin(run, SCENES[0], limits={scope: 20_000})).diag
    assert "$0.01 of $0.02 is spent or reserved, and the next picture costs $0.04" in str(refusal.message_primary)
    detail = json.loads(str(refusal.message_detail))
    assert (detail["scope"], detail["limit_micros"], detail["spent_micros"]) == (scope, 20_000, CUTOUT_MICROS)
    if scope == "run":
        assert detail["resets_at"] is None
    else:
        resets_at = datetime.fromisoformat(detail["resets_at"])
        assert (resets_at - datetime.now(UTC)).total_seconds() <= 86_400
        assert resets_at.astimezone(UTC).time().isoformat() == "00:00:00"


def test_owners_have_budgets_of_their_own(database: Database, owner: Database) -> None:
    ada, bob = user(owner), user(owner)
    limits = {"owner": CUTOUT_MICROS}
    assert database.begin(claimed_product_of(database, ada), "cutout", limits=limits)[0]["verdict"] == "buy"
    again = claimed_product_of(database, ada)
    assert error_of(lambda: database.begin(again, "cutout", limits=limits)).sqlstate == OVER_BUDGET
    assert database.begin(claimed_product_of(database, bob), "cutout", limits=limits)[0]["verdict"] == "buy"
    keys = database.rows("select scope_key from public.budgets where scope = 'owner' order by scope_key")
    assert [key for (key,) in keys] == sorted([ada, bob])


def test_a_product_without_an_owner_is_the_shops(database: Database) -> None:
    database.begin(database.claimed_product(), "cutout")
    assert database.value("select scope_key from public.budgets where scope = 'owner'") == "shop"


def test_what_is_settled_late_is_settled_where_it_was_reserved(database: Database, owner: Database) -> None:
    """By then the product has gone, and its owner with it."""
    ada = user(owner)
    run = claimed_product_of(database, ada)
    call = database.buy(run, "cutout")
    database.call("delete_product_v1", product=run.product_id)
    owner.execute("delete from auth.users where id = %s", ada)
    database.finish_call(call, cost_micros=9)
    assert budgets(database) == dict.fromkeys(SCOPES, (0, 9))


def test_a_later_run_that_adopts_a_call_does_not_pay_for_it(database: Database) -> None:
    run = database.claimed_product()
    call = database.buy(run, "cutout")
    database.call("accept_task_v1", call=call, task="task-1")
    database.fail(run)
    database.start_run(run.product_id)
    (later,) = database.claim()
    assert database.begin(later, "cutout", limits={"run": 0})[0]["verdict"] == "resume"
    database.finish_call(call)
    assert database.rows("select scope_key, spent_micros from public.budgets where scope = 'run'") == [
        (str(run.run_id), CUTOUT_MICROS)
    ]


@pytest.mark.parametrize("scope", SCOPES)
def test_calls_of_the_version_before_are_settled_in_the_day_alone(database: Database, scope: str) -> None:
    call = database.buy(database.claimed_product(), "cutout")
    database.execute("update public.calls set budget_owner = null, budget_run = null where id = %s", call)
    database.finish_call(call)
    settled = (0, CUTOUT_MICROS) if scope == "day" else (CUTOUT_MICROS, 0)
    assert budgets(database)[scope] == settled


@pytest.mark.parametrize("scope", ["day", "owner"])
def test_fifty_runs_at_once_cannot_pass_a_cap(connect: Connect, database: Database, scope: str) -> None:
    """They begin, send and settle at once; what is given back by failures may be reserved again."""
    for _ in range(50):
        database.create_product()
    runs = database.claim(places=50)
    limits = {scope: 10 * CUTOUT_MICROS}

    def work(number: int, worker: Database) -> str:
        outcome: Any = outcome_of(worker, lambda c: c.begin(runs[number], "cutout", limits=limits))
        if isinstance(outcome, Exception):
            return str(getattr(outcome, "sqlstate", outcome))
        call = outcome[0]["call_id"]
        worker.call("send_call_v1", **runs[number].held, call=call)
        state = "failed" if number % 2 else "done"
        worker.finish_call(call, state)
        return state

    outcomes = all_at_once([connect() for _ in range(50)], work)

    assert set(outcomes) <= {OVER_BUDGET, "failed", "done"}
    assert outcomes.count("done") <= 10
    assert OVER_BUDGET in outcomes
    assert budgets(database)[scope] == (0, outcomes.count("done") * CUTOUT_MICROS)


class TestSpend:
    def test_a_day_is_told_by_provider(self, database: Database) -> None:
        run = database.claimed_product()
        database.do_step(run, "cutout")
        database.finish_call(database.buy(run, SCENES[0], limits={"day": 1_000_000}), "unknown")
        database.buy(run, SCENES[1], limits={"day": 1_000_000, "owner": 500_000})
        (today,) = database.call("spend_v1", days=1)
        assert today["day"] == datetime.now(UTC).date().isoformat()
        assert today["limit_micros"] == 1_000_000
        assert today["providers"] == [
            {"provider": "nanobanana", "calls": 2, "unknown": 1, "spent_micros": SCENE_MICROS,
             "reserved_micros": SCENE_MICROS},
            {"provider": "reve", "calls": 1, "unknown": 0, "spent_micros": CUTOUT_MICROS, "reserved_micros": 0},
        ]  # fmt: skip
        assert today["owners"] == [
            {"owner": "shop", "limit_micros": 500_000, "spent_micros": SCENE_MICROS + CUTOUT_MICROS,
             "reserved_micros": SCENE_MICROS}
        ]  # fmt: skip

    def test_days_without_any_call_are_there_too(self, database: Database) -> None:
        database.do_step(database.claimed_product(), "cutout")
        database.execute("update public.calls set created_at = created_at - interval '2 days'")
        database.execute("update public.budgets set period = period - 2")
        days = database.call("spend_v1", days=4)
        assert [len(day["providers"]) for day in days] == [0, 0, 1, 0]
        assert [len(day["owners"]) for day in days] == [0, 0, 1, 0]
