"""Cancelling and deleting, alone and against everything that a worker or another user does at the same moment."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import CUTOUT_MICROS, SCENES, Database, Run
from tests.sql.outcomes import LEASE_LOST, NOT_FOUND, RUN_ACTIVE, assert_lease_lost, error_of
from tests.sql.races import overtake

CANCELLED = "VT007"
NOTHING_TO_CANCEL = RUN_ACTIVE  # both are conflicts with the product's state


def cancel(database: Database, run: Run) -> str:
    answer = database.call("cancel_run_v1", product=run.product_id)
    assert answer["run_id"] == str(run.run_id)
    return str(answer["status"])


def delete(database: Database, run: Run) -> set[str]:
    """The keys of the objects that are to be removed."""
    return {item["key"] for item in database.call("delete_product_v1", product=run.product_id)}


def state(database: Database, run: Run) -> tuple[str, str]:
    return database.run(run.run_id)["status"], database.product(run.product_id)["status"]


def code_of(outcome: Any) -> str:
    return str(getattr(outcome, "sqlstate", outcome))


def whole_product(database: Database) -> Run:
    run = database.claimed_product()
    for name in ("cutout", *SCENES):
        database.do_step(run, name)
    database.complete(run)
    return run


class TestCancel:
    def test_a_run_that_waits_is_cancelled_at_once(self, database: Database) -> None:
        run = database.create_product()
        assert cancel(database, run) == "cancelled"
        assert state(database, run) == ("cancelled", "cancelled")
        assert database.claim() == []
        assert [kind for _, kind in database.events(run.product_id)] == ["run.queued", "run.cancelled"]

    def test_a_run_at_work_begins_nothing_more(self, database: Database) -> None:
        run = database.claimed_product()
        database.do_step(run, "cutout")
        assert cancel(database, run) == "cancelling"
        before = database.value("select count(*) from public.calls")
        assert error_of(lambda: database.begin(run, SCENES[0])).sqlstate == CANCELLED
        assert database.value("select count(*) from public.calls") == before
        assert state(database, run) == ("processing", "processing")

    def test_a_call_that_was_begun_but_not_sent_is_not_sent(self, database: Database) -> None:
        run = database.claimed_product()
        (verdict,) = database.begin(run, "cutout")
        cancel(database, run)
        sending = error_of(lambda: database.call("send_call_v1", **run.held, call=UUID(verdict["call_id"])))
        assert sending.sqlstate == CANCELLED
        assert database.call("complete_run_v1", **run.held, outcome="cancelled") == "cancelled"
        assert database.budget() == (0, 0)

    def test_a_call_in_flight_is_kept_as_a_step(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        cancel(database, run)
        database.finish_call(call)
        database.finish_step(run, "cutout")
        assert database.call("complete_run_v1", **run.held, outcome="cancelled") == "cancelled"
        assert database.rows("select name, state from public.steps") == [("cutout", "done")]
        again = database.start_run(run.product_id)
        (claimed,) = database.claim()
        assert claimed.run_id == again.run_id
        assert database.begin(claimed, "cutout")[0]["verdict"] == "reuse"

    def test_a_request_that_was_not_accepted_may_be_repeated_while_cancelling(self, database: Database) -> None:
        """Else a call that certainly cost nothing would be left as sent."""
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        cancel(database, run)
        database.call("send_call_v1", **run.held, call=call)

    @pytest.mark.parametrize("outcome", ["completed", "failed"])
    def test_whatever_it_came_to_it_ends_as_cancelled(self, database: Database, outcome: str) -> None:
        before = whole_product(database)
        shown = database.product(before.product_id)
        database.start_run(before.product_id)
        (run,) = database.claim()
        cancel(database, run)
        result = {"urls": ["https://shop.test/new.png"], "variants": [], "manifest": {}}
        arguments: dict[str, Any] = {"outcome": outcome, "result": result, "code": "refused", "message": "No."}
        assert database.call("complete_run_v1", **run.held, **arguments) == "cancelled"
        assert database.call("complete_run_v1", **run.held, **arguments) == "cancelled"  # repeated after a lost answer
        after = database.product(run.product_id)
        for column in ("generated_image_urls", "image_url", "variants", "error_message"):
            assert after[column] == shown[column]

    def test_a_run_that_is_handed_back_ends_instead(self, database: Database) -> None:
        run = database.claimed_product()
        cancel(database, run)
        database.call("hand_back_v1", **run.held, delay_s=900, reason="The provider rests.")
        assert state(database, run) == ("cancelled", "cancelled")

    def test_a_run_whose_worker_died_is_ended_by_the_next(self, database: Database) -> None:
        run = database.claimed_product()
        cancel(database, run)
        database.expire_lease(run)
        (taken,) = database.claim_expired("next")
        assert error_of(lambda: database.begin(taken, "cutout")).sqlstate == CANCELLED
        assert database.call("complete_run_v1", **taken.held, outcome="cancelled") == "cancelled"

    def test_the_generation_is_kept(self, database: Database) -> None:
        """What was bought for the cancelled run is not bought again."""
        whole_product(database)
        (product_id,) = database.row("select id from public.products")
        cancel(database, database.start_run(product_id))
        again = database.start_run(product_id)
        assert database.run(again.run_id)["generation"] == 1

    def test_repeating_it_changes_nothing(self, database: Database) -> None:
        run = database.claimed_product()
        assert [cancel(database, run), cancel(database, run)] == ["cancelling", "cancelling"]
        assert [kind for _, kind in database.events(run.product_id)].count("run.cancelling") == 1
        database.call("complete_run_v1", **run.held, outcome="cancelled")
        assert cancel(database, run) == "cancelled"

    def test_what_is_over_cannot_be_cancelled(self, database: Database) -> None:
        run = whole_product(database)
        assert error_of(lambda: cancel(database, run)).sqlstate == NOTHING_TO_CANCEL

    def test_what_does_not_exist_cannot_be_cancelled(self, database: Database) -> None:
        error = error_of(lambda: database.call("cancel_run_v1", product=uuid4()))
        assert error.sqlstate == NOT_FOUND


class TestCancelAgainstOthers:
    def test_a_claim_that_comes_first_is_told(self, connect: Connect, database: Database) -> None:
        run = database.create_product()
        claimed, status = overtake((connect(), lambda c: c.claim()), (connect(), lambda c: cancel(c, run)))
        assert status == "cancelling"
        assert error_of(lambda: database.begin(claimed[0], "cutout")).sqlstate == CANCELLED

    def test_a_claim_that_comes_second_gets_nothing(self, connect: Connect, database: Database) -> None:
        run = database.create_product()
        status, claimed = overtake((connect(), lambda c: cancel(c, run)), (connect(), lambda c: c.claim()))
        assert (status, claimed) == ("cancelled", [])

    def test_a_completion_that_comes_first_stands(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        _, refused = overtake((connect(), lambda c: c.complete(run)), (connect(), lambda c: cancel(c, run)))
        assert code_of(refused) == NOTHING_TO_CANCEL
        assert state(database, run) == ("completed", "completed")

    def test_a_completion_that_comes_second_is_a_cancellation(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        status, _ = overtake((connect(), lambda c: cancel(c, run)), (connect(), lambda c: c.complete(run)))
        assert status == "cancelling"
        assert state(database, run) == ("cancelled", "cancelled")
        assert database.product(run.product_id)["generated_image_urls"] == []

    def test_a_start_that_comes_first_is_cancelled(self, connect: Connect, database: Database) -> None:
        product_id = whole_product(database).product_id
        started, cancelled = overtake(
            (connect(), lambda c: c.start_run(product_id)),
            (connect(), lambda c: c.call("cancel_run_v1", product=product_id)),
        )
        if isinstance(cancelled, Exception):  # it looked before the start was committed: nothing was being done then
            assert code_of(cancelled) == NOTHING_TO_CANCEL
        else:
            assert cancelled == {"run_id": str(started.run_id), "status": "cancelled"}

    def test_a_start_that_comes_second_starts_anew(self, connect: Connect, database: Database) -> None:
        run = database.create_product()
        status, started = overtake(
            (connect(), lambda c: cancel(c, run)), (connect(), lambda c: c.start_run(run.product_id))
        )
        assert status == "cancelled"
        if isinstance(started, Exception):
            assert code_of(started) == RUN_ACTIVE
        else:
            assert state(database, started) == ("pending", "pending")


class TestDelete:
    def test_rows_go_and_the_ledger_stays(self, database: Database) -> None:
        run = whole_product(database)
        delete(database, run)
        for table in ("products", "product_private", "runs", "steps", "events"):
            assert database.value(f"select count(*) from public.{table}") == 0
        assert database.value("select count(*) from public.calls where product_id is null") == 5
        assert database.budget()[1] > 0

    def test_every_object_is_named_and_remembered(self, database: Database) -> None:
        run = whole_product(database)
        database.start_run(run.product_id)
        (second,) = database.claim()
        database.do_step(second, "variant:late")
        keys = delete(database, run)
        assert keys == {f"products/{run.product_id}-1.jpg"} | {
            f"{run.product_id}/{name}.png" for name in ("cutout", *SCENES, "variant:late")
        }
        assert {key for (key,) in database.rows("select object_key from public.objects_to_remove")} == keys

    def test_what_was_removed_is_forgotten(self, database: Database) -> None:
        objects = database.call("delete_product_v1", product=whole_product(database).product_id)
        database.call("objects_removed_v1", objects=objects[1:])
        assert database.rows("select bucket, object_key from public.objects_to_remove") == [
            (objects[0]["bucket"], objects[0]["key"])
        ]

    def test_an_object_that_may_still_land_is_not_forgotten(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        objects = database.call("delete_product_v1", product=run.product_id)
        database.call("objects_removed_v1", objects=objects)
        assert database.rows("select call_id from public.objects_to_remove") == [(call,)]
        database.finish_call(call)
        database.call("objects_removed_v1", objects=objects)
        assert database.rows("select call_id from public.objects_to_remove") == []

    def test_the_worker_that_holds_it_is_fenced(self, database: Database) -> None:
        run = database.claimed_product()
        (verdict,) = database.begin(run, "cutout")
        delete(database, run)
        assert_lease_lost(lambda: database.call("send_call_v1", **run.held, call=UUID(verdict["call_id"])))
        assert_lease_lost(lambda: database.begin(run, SCENES[0]))
        assert_lease_lost(lambda: database.complete(run))
        assert database.budget() == (0, 0)

    def test_what_does_not_exist_cannot_be_deleted(self, database: Database) -> None:
        assert error_of(lambda: database.call("delete_product_v1", product=uuid4())).sqlstate == NOT_FOUND


class TestDeleteAgainstOthers:
    def test_a_claim_that_comes_first_is_fenced(self, connect: Connect, database: Database) -> None:
        run = database.create_product()
        claimed, _ = overtake((connect(), lambda c: c.claim()), (connect(), lambda c: delete(c, run)))
        assert_lease_lost(lambda: database.begin(claimed[0], "cutout"))
        assert database.value("select count(*) from public.runs") == 0

    def test_a_claim_that_comes_second_gets_nothing(self, connect: Connect, database: Database) -> None:
        run = database.create_product()
        _, claimed = overtake((connect(), lambda c: delete(c, run)), (connect(), lambda c: c.claim()))
        assert claimed == []

    @pytest.mark.parametrize("settled_first", [True, False])
    def test_a_settlement_is_kept_either_way(self, connect: Connect, database: Database, settled_first: bool) -> None:
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        settle = (connect(), lambda c: c.finish_call(call))
        remove = (connect(), lambda c: delete(c, run))
        outcomes = overtake(settle, remove) if settled_first else overtake(remove, settle)
        assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
        assert database.budget() == (0, CUTOUT_MICROS)
        assert database.row("select state, product_id from public.calls") == ("done", None)

    @pytest.mark.parametrize("finished_first", [True, False])
    def test_a_step_that_finishes_meanwhile(self, connect: Connect, database: Database, finished_first: bool) -> None:
        run = database.claimed_product()
        database.finish_call(database.buy(run, "cutout"))
        finish = (connect(), lambda c: c.finish_step(run, "cutout"))
        remove = (connect(), lambda c: delete(c, run))
        if finished_first:
            finished, keys = overtake(finish, remove)
            assert finished is None
        else:
            keys, finished = overtake(remove, finish)
            assert code_of(finished) == LEASE_LOST
        assert f"{run.product_id}/cutout.png" in keys
        assert database.value("select count(*) from public.products") == 0

    def test_of_two_deletions_one_finds_nothing(self, connect: Connect, database: Database) -> None:
        run = whole_product(database)
        keys, second = overtake((connect(), lambda c: delete(c, run)), (connect(), lambda c: delete(c, run)))
        assert len(keys) == 6
        assert code_of(second) == NOT_FOUND

    def test_a_start_that_comes_second_finds_nothing(self, connect: Connect, database: Database) -> None:
        run = whole_product(database)
        _, started = overtake((connect(), lambda c: delete(c, run)), (connect(), lambda c: c.start_run(run.product_id)))
        assert code_of(started) == NOT_FOUND
