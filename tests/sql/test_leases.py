"""Heartbeat, hand-back and the end of a run: what a worker does with a lease that it holds."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import SCENES, Database, Run
from tests.sql.outcomes import assert_lease_lost, error_of

SHOWN_COLUMNS = ("generated_image_urls", "image_url", "variants", "raw_image_url", "generation")


def heartbeat(database: Database, *runs: Run, worker: str = "worker", slots: int = 4) -> list[UUID]:
    leases = [{"run_id": str(run.run_id), "lease_token": str(run.lease)} for run in runs]
    return database.call_all("heartbeat_v1", worker=worker, slots=slots, lease_s=30, leases=leases)


def shown(database: Database, run: Run) -> dict[str, Any]:
    product = database.product(run.product_id)
    return {column: product[column] for column in SHOWN_COLUMNS}


class TestHeartbeat:
    def test_renews_every_lease_of_the_worker(self, database: Database) -> None:
        runs = [database.claimed_product(), database.claimed_product()]
        database.execute("update public.runs set lease_expires_at = now() + interval '1 second'")
        assert set(heartbeat(database, *runs)) == {run.run_id for run in runs}
        assert database.value("select min(lease_expires_at) > now() + interval '20 seconds' from public.runs")

    def test_renews_a_lease_that_ran_out_but_that_nobody_took(self, database: Database) -> None:
        run = database.claimed_product()
        database.expire_lease(run)
        assert heartbeat(database, run) == [run.run_id]
        assert database.claim_expired("other") == []

    def test_leaves_out_the_leases_that_are_lost(self, database: Database) -> None:
        lost, kept = database.claimed_product(), database.claimed_product()
        database.expire_lease(lost)
        (taken,) = database.claim_expired("other")
        before = database.run(taken.run_id)
        assert heartbeat(database, lost, kept) == [kept.run_id]
        assert database.run(taken.run_id) == before

    def test_leaves_out_runs_that_have_ended(self, database: Database) -> None:
        run = database.claimed_product()
        database.complete(run)
        assert heartbeat(database, run) == []

    def test_tells_that_the_worker_is_alive_without_any_run(self, database: Database) -> None:
        assert heartbeat(database, worker="idle", slots=7) == []
        assert heartbeat(database, worker="idle", slots=8) == []
        assert database.rows("select id, slots from public.workers") == [("idle", 8)]
        assert database.call("queue_health_v1")["workers"] == 1

    def test_forgets_workers_that_were_not_seen_for_an_hour(self, database: Database) -> None:
        heartbeat(database, worker="gone")
        database.execute("update public.workers set seen_at = now() - interval '61 minutes' where id = 'gone'")
        heartbeat(database, worker="here")
        assert database.rows("select id from public.workers") == [("here",)]


class TestHandBack:
    def test_gives_the_attempt_back_and_keeps_the_checkpoints(self, database: Database) -> None:
        run = database.claimed_product(run={"max_attempts": 1})
        database.do_step(run, "cutout")
        database.call("hand_back_v1", **run.held)

        row = database.run(run.run_id)
        assert (row["status"], row["attempts"], row["deferrals"]) == ("pending", 0, 0)
        assert (row["locked_by"], row["lease_token"], row["lease_expires_at"]) == (None, None, None)
        (again,) = database.claim("other")
        (verdict,) = database.begin(again, "cutout")
        assert verdict["verdict"] == "reuse"

    def test_never_uses_a_run_up_however_often_it_happens(self, database: Database) -> None:
        database.create_product(run={"max_attempts": 1})
        for _ in range(5):
            (run,) = database.claim()
            database.call("hand_back_v1", **run.held)
        assert len(database.claim()) == 1

    def test_with_a_delay_counts_as_a_deferral_and_says_why(self, database: Database) -> None:
        run = database.claimed_product()
        database.call("hand_back_v1", **run.held, delay_s=60, reason="x" * 600)
        row = database.run(run.run_id)
        assert (row["status"], row["deferrals"], row["error_message"]) == ("pending", 1, "x" * 500)
        assert database.value(
            "select run_at between now() + interval '50 s' and now() + interval '60 s' from public.runs"
        )

    @pytest.mark.parametrize(("delay_s", "rings"), [(0, 1), (60, 0)])
    def test_rings_the_others_only_when_there_is_work_at_once(
        self, database: Database, owner: Database, delay_s: float, rings: int
    ) -> None:
        run = database.claimed_product()
        count_bells = "select count(*) from realtime.messages where topic = 'vitrine-runs' and private"
        before = owner.value(count_bells)
        database.call("hand_back_v1", **run.held, delay_s=delay_s)
        assert owner.value(count_bells) - before == rings


class TestFreeRunsOf:
    def test_frees_only_what_that_worker_held(self, database: Database) -> None:
        mine = [database.claimed_product(), database.claimed_product()]
        database.create_product()
        (theirs,) = database.claim("other")
        assert database.call("free_runs_of_v1", worker="worker") == 2
        assert {run.run_id for run in database.claim("worker", 5)} == {run.run_id for run in mine}
        assert database.run(theirs.run_id)["lease_token"] == str(theirs.lease)

    def test_counts_the_attempt_that_died(self, database: Database) -> None:
        database.claimed_product()
        database.call("free_runs_of_v1", worker="worker")
        (again,) = database.claim("worker")
        assert database.run(again.run_id)["attempts"] == 2

    def test_takes_the_lease_from_an_earlier_process_that_lives_after_all(self, database: Database) -> None:
        run = database.claimed_product()
        database.call("free_runs_of_v1", worker="worker")
        assert heartbeat(database, run) == []
        assert_lease_lost(lambda: database.complete(run))

    def test_lets_the_last_attempt_be_set_aside(self, database: Database) -> None:
        run = database.claimed_product(run={"max_attempts": 1})
        assert database.call("free_runs_of_v1", worker="worker") == 1
        assert database.claim_expired() == []
        assert database.run(run.run_id)["error_code"] == "worker_lost"

    def test_does_nothing_for_a_name_that_is_new(self, database: Database) -> None:
        database.claimed_product()
        assert database.call("free_runs_of_v1", worker="new") == 0


class TestCompleteRun:
    def test_writes_the_result_in_one_go(self, database: Database) -> None:
        run = database.claimed_product()
        database.complete(run, failed_scenes=[SCENES[0]])
        product, row = database.product(run.product_id), database.run(run.run_id)
        assert product["generated_image_urls"] == [f"https://shop.test/1/{name}.png" for name in SCENES[1:]]
        assert product["image_url"] == product["generated_image_urls"][0]
        assert [variant["status"] for variant in product["variants"]] == ["failed"] + ["completed"] * 3
        assert (product["status"], row["status"]) == ("completed", "completed")
        assert row["completed_at"] is not None
        assert row["processing_time"] >= 0
        assert database.events(run.product_id)[-1][1] == "run.completed"

    def test_repeated_after_a_lost_answer_changes_nothing(self, database: Database) -> None:
        run = database.claimed_product()
        database.complete(run)
        before = everything(database)
        database.complete(run)
        assert everything(database) == before

    def test_a_failed_run_leaves_what_was_shown_before(self, database: Database) -> None:
        run = database.claimed_product()
        database.complete(run)
        database.start_run(run.product_id)
        (second,) = database.claim()
        before = shown(database, run)
        database.do_step(second, "cutout")
        database.fail(second)
        assert shown(database, run) == before
        product = database.product(run.product_id)
        assert (product["status"], product["error_message"]) == ("failed", "It did not work.")

    def test_a_first_run_that_failed_still_shows_the_upload(self, database: Database) -> None:
        run = database.claimed_product()
        database.fail(run)
        product = database.product(run.product_id)
        assert (product["image_url"], product["generated_image_urls"]) == (product["raw_image_url"], [])

    def test_keeps_the_detail_of_an_error_from_clients(self, database: Database, connect: Connect) -> None:
        run = database.claimed_product()
        database.call(
            "complete_run_v1", **run.held, outcome="failed", code="refused", message="m" * 600, detail={"status": 422}
        )
        assert database.value("select error_detail from public.product_private") == {"status": 422}
        assert connect("anon").product(run.product_id)["error_message"] == "m" * 500
        database.start_run(run.product_id)
        assert database.value("select error_detail from public.product_private") is None

    def test_needs_a_result_to_be_completed(self, database: Database) -> None:
        run = database.claimed_product()
        error_of(lambda: database.call("complete_run_v1", **run.held, outcome="completed"))
        assert database.run(run.run_id)["status"] == "processing"

    def test_refuses_an_outcome_that_is_none(self, database: Database) -> None:
        run = database.claimed_product()
        error = error_of(lambda: database.call("complete_run_v1", **run.held, outcome="pending"))
        assert error.diag.constraint_name == "runs_ended_when_final"

    def test_frees_the_money_of_calls_that_were_never_sent(self, database: Database) -> None:
        run = database.claimed_product()
        database.begin(run, *SCENES)
        database.fail(run)
        assert database.budget() == (0, 0)
        assert database.rows("select distinct state, error_code, repeatable from public.calls") == [
            ("failed", "not_sent", True)
        ]

    def test_leaves_calls_alone_that_are_in_flight(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, "cutout")
        database.fail(run)
        assert database.call_row(call)["state"] == "sent"
        database.finish_call(call)
        assert database.call_row(call)["state"] == "done"


def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all our tables, but for the advance of the clock."""
    tables = database.rows("select tablename from pg_tables where schemaname = 'public'")
    return {name: database.rows(f'select to_jsonb(t) from public."{name}" t order by 1') for (name,) in tables}


def test_a_lease_that_never_was_holds_nothing(database: Database) -> None:
    run = Run(run_id=uuid4(), product_id=uuid4(), lease=uuid4())
    assert heartbeat(database, run) == []
    assert_lease_lost(lambda: database.fail(run))
