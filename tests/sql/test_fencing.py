"""A worker that lost its run can change nothing with the lease that it remembers, except facts about money."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import Database, Run, picture, wanted_step
from tests.sql.outcomes import LEASE_LOST, error_of
from tests.sql.races import overtake
from tests.sql.test_leases import everything

Action = Callable[[Database, Run], Any]

#: One call of every function that takes a lease, as the worker makes it.
FENCED: dict[str, Action] = {
    "held_run_v1": lambda database, run: database.call("held_run_v1", **run.held),
    "hand_back_v1": lambda database, run: database.call("hand_back_v1", **run.held),
    "begin_steps_v1": lambda database, run: database.call(
        "begin_steps_v1", **run.held, steps=[wanted_step(run, "cutout", 1)], plan={"cutout": {"state": "waiting"}}
    ),
    "send_call_v1": lambda database, run: database.call("send_call_v1", **run.held, call=intended_call(database)),
    "finish_step_v1": lambda database, run: database.finish_step(run, "cutout"),
    "complete_run_v1": lambda database, run: database.complete(run),
}


def working(database: Database) -> Run:
    """A claimed run with one step begun and its call not yet sent."""
    run = database.claimed_product()
    database.begin(run, "cutout", plan={"cutout": {"state": "waiting"}})
    return run


def intended_call(database: Database) -> UUID:
    call: UUID = database.value("select id from public.calls order by created_at limit 1")
    return call


def retaken(database: Database, run: Run) -> None:
    database.expire_lease(run)
    assert len(database.claim_expired("other")) == 1


def handed_back(database: Database, run: Run) -> None:
    database.call("hand_back_v1", **run.held)


def failed(database: Database, run: Run) -> None:
    database.fail(run)


def product_deleted(database: Database, run: Run) -> None:
    database.execute("delete from public.products where id = %s", run.product_id)


def test_every_function_that_takes_a_lease_is_tried_here(owner: Database) -> None:
    found = owner.rows(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace and 'lease' = any (proargnames)"
        " and pg_get_function_arguments(oid) like %s",
        "%lease uuid%",
    )
    assert {name for (name,) in found} == set(FENCED)


@pytest.mark.parametrize("lose", [retaken, handed_back, failed, product_deleted])
@pytest.mark.parametrize("function", FENCED)
def test_a_stale_lease_changes_nothing(database: Database, function: str, lose: Action) -> None:
    run = working(database)
    lose(database, run)
    before = everything(database)
    error = error_of(lambda: FENCED[function](database, run))
    assert error.sqlstate == LEASE_LOST
    assert everything(database) == before


@pytest.mark.parametrize("function", FENCED)
def test_a_worker_that_comes_just_too_late_changes_nothing(connect: Connect, database: Database, function: str) -> None:
    """It waits for the claim that takes its run, and is refused when that commits."""
    run = working(database)
    database.expire_lease(run)
    taken, refused = overtake(
        (connect(), lambda other: other.claim_expired("other")),
        (connect(), lambda zombie: FENCED[function](zombie, run)),
    )
    assert [other.run_id for other in taken] == [run.run_id]
    assert getattr(refused, "sqlstate", refused) == LEASE_LOST


@pytest.mark.parametrize("function", FENCED)
def test_a_worker_that_comes_just_in_time_keeps_its_run(connect: Connect, database: Database, function: str) -> None:
    """The claim passes by a run in which its holder is writing at this moment."""
    run = working(database)
    database.expire_lease(run)
    done, taken = overtake(
        (connect(), lambda holder: FENCED[function](holder, run)),
        (connect(), lambda other: other.claim_expired("other")),
    )
    assert not isinstance(done, Exception)
    assert taken == []


def test_a_call_of_another_run_cannot_be_sent_with_this_lease(database: Database) -> None:
    working(database)
    other = database.claimed_product()
    error = error_of(lambda: database.call("send_call_v1", **other.held, call=intended_call(database)))
    assert error.sqlstate == LEASE_LOST
    assert database.value("select distinct state from public.calls") == "intended"


class TestFactsAboutMoney:
    """Accepted from a worker that lost its run, from nobody's, and more than once."""

    def test_an_answer_is_kept_and_adopted_by_the_next_worker(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        retaken(database, run)
        database.finish_call(call, cost_micros=7)
        assert database.call_row(call)["settled_micros"] == 7
        database.call("free_runs_of_v1", worker="other")
        (next_run,) = database.claim("next")
        (verdict,) = database.begin(next_run, "cutout")
        assert verdict == {
            "verdict": "reuse",
            "object": {"bucket": "plant-images", "key": f"{run.product_id}/cutout.png"} | picture(),
        }

    def test_a_task_id_is_kept_and_resumed_by_the_next_worker(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        retaken(database, run)
        database.call("accept_task_v1", call=call, task="task-1")
        database.call("accept_task_v1", call=call, task="task-2")  # the first fact stands
        database.call("free_runs_of_v1", worker="other")
        (next_run,) = database.claim("next")
        (verdict,) = database.begin(next_run, "cutout")
        assert (verdict["verdict"], verdict["task_id"], verdict["call_id"]) == ("resume", "task-1", str(call))

    def test_an_answer_is_kept_after_the_product_was_deleted(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        product_deleted(database, run)
        database.finish_call(call, cost_micros=7)
        assert database.budget() == (0, 7)

    def test_a_settlement_of_nothing_is_an_error(self, database: Database) -> None:
        assert error_of(lambda: database.finish_call(uuid4())).sqlstate == "VT004"
