"""`maintenance_v1`: what it settles, ends, deletes and names, and that one at a time does so."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import CUTOUT_MICROS, Database, Run
from tests.sql.races import all_at_once

SETTINGS = {"raw_bucket": "plant-images", "raw_folder": "products", "pending_hours": 24}


def maintain(database: Database) -> Any:
    """A turn that is due."""
    database.execute("update public.maintenance set ran_at = '-infinity' where true")
    return database.call("maintenance_v1", settings=SETTINGS)


def ended_with_a_call(database: Database, state: str, *, task: str | None = None) -> tuple[Run, UUID]:
    """A run that was ended with its call left in that state."""
    run = database.claimed_product()
    (verdict,) = database.begin(run, "cutout")
    call = UUID(verdict["call_id"])
    if state == "sent":
        database.call("send_call_v1", **run.held, call=call)
        if task:
            database.call("accept_task_v1", call=call, task=task)
        database.fail(run)
    else:  # as a worker of the version before could leave it
        database.execute("update public.runs set status = 'failed', completed_at = now() where id = %s", run.run_id)
    return run, call


def test_one_worker_a_minute_has_its_turn(connect: Connect, database: Database) -> None:
    workers = [connect() for _ in range(8)]
    turns = all_at_once(workers, lambda _, worker: worker.call("maintenance_v1", settings=SETTINGS))
    assert [turn is not None for turn in turns].count(True) == 1
    assert database.call("maintenance_v1", settings=SETTINGS) is None
    database.execute("update public.maintenance set ran_at = now() - interval '51 seconds' where true")
    assert database.call("maintenance_v1", settings=SETTINGS) is not None


def test_keys_of_yesterday_are_forgotten(database: Database) -> None:
    for key, age in [("old", "25 hours"), ("young", "23 hours")]:
        database.execute(
            "insert into public.idempotency_keys (owner, key, request_hash, answer, created_at)"
            " values ('o', %s, 'h', '{}', now() - %s::interval)", key, age,
        )  # fmt: skip
    assert maintain(database)["expired_keys"] == 1
    assert database.rows("select key from public.idempotency_keys") == [("young",)]


def test_a_call_that_was_never_sent_is_free_again(database: Database) -> None:
    _, call = ended_with_a_call(database, "intended")
    assert database.budget() == (CUTOUT_MICROS, 0)
    assert maintain(database)["calls_not_sent"] == 1
    assert (database.call_row(call)["state"], database.budget()) == ("failed", (0, 0))


@pytest.mark.parametrize(
    ("task", "age", "state"),
    [(None, "59 minutes", "sent"), (None, "61 minutes", "unknown"),
     ("task-1", "23 hours", "sent"), ("task-1", "25 hours", "unknown")],
)  # fmt: skip
def test_a_call_without_an_answer_counts_as_unknown_in_the_end(
    database: Database, task: str | None, age: str, state: str
) -> None:
    _, call = ended_with_a_call(database, "sent", task=task)
    database.execute("update public.calls set sent_at = now() - %s::interval", age)
    maintain(database)
    assert database.call_row(call)["state"] == state
    if state == "unknown":
        assert database.budget() == (0, CUTOUT_MICROS)
        database.finish_call(call, cost_micros=3)  # the answer comes after all
        assert database.budget() == (0, 3)


def test_a_call_of_a_run_at_work_is_left_alone(database: Database) -> None:
    run = database.claimed_product()
    call = database.buy(run, "cutout")
    database.execute("update public.calls set sent_at = now() - interval '2 days'")
    found = maintain(database)
    assert (found["calls_unknown"], database.call_row(call)["state"]) == (0, "sent")


def test_a_call_of_a_deleted_product_is_settled_and_its_object_named(database: Database) -> None:
    run = database.claimed_product()
    call = database.buy(run, "cutout")
    objects = database.call("delete_product_v1", product=run.product_id)
    database.call("objects_removed_v1", objects=objects)
    assert maintain(database)["objects"] == []  # it may still land
    database.execute("update public.calls set sent_at = now() - interval '2 hours'")
    (left,) = maintain(database)["objects"]
    assert left["key"] == f"{run.product_id}/cutout.png"
    assert database.call_row(call)["state"] == "unknown"


def test_a_run_that_nobody_gets_to_ends_with_a_sentence(database: Database) -> None:
    late, young = database.create_product(), database.create_product()
    database.execute("update public.runs set created_at = now() - interval '25 hours' where id = %s", late.run_id)
    assert maintain(database)["runs_overdue"] == 1
    assert database.run(late.run_id)["error_code"] == "deadline"
    assert "24 hours" in database.product(late.product_id)["error_message"]
    assert database.run(young.run_id)["status"] == "pending"


def test_a_run_at_work_is_not_overdue(database: Database) -> None:
    run = database.claimed_product()
    database.execute("update public.runs set created_at = now() - interval '25 hours'")
    maintain(database)
    assert database.run(run.run_id)["status"] == "processing"


def test_budgets_of_runs_go_when_they_are_over_and_old(database: Database) -> None:
    done, working = database.claimed_product(), database.claimed_product()
    database.do_step(done, "cutout")
    database.fail(done)
    database.buy(working, "cutout")
    database.execute("update public.budgets set period = period - 8")
    maintain(database)
    kept = database.rows("select scope, scope_key from public.budgets order by scope")
    assert kept == [("day", ""), ("owner", "shop"), ("run", str(working.run_id))]


def test_a_budget_is_reported_at_four_fifths_and_once(database: Database) -> None:
    run = database.claimed_product()
    database.begin(run, "cutout", limits={"day": CUTOUT_MICROS * 5 // 4, "owner": CUTOUT_MICROS * 5 // 4 + 1})
    (low,) = maintain(database)["warnings"]
    assert (low["scope"], low["reserved_micros"]) == ("day", CUTOUT_MICROS)
    assert maintain(database)["warnings"] == []


def test_an_upload_that_came_again_is_not_removed(database: Database) -> None:
    run = database.create_product()
    key = f"products/{run.product_id}-0123456789ab.jpg"
    database.execute("update public.product_private set raw_key = %s where true", key)
    database.execute("insert into public.objects_to_remove (bucket, object_key) values ('plant-images', %s)", key)
    assert maintain(database)["objects"] == []
    assert database.rows("select 1 from public.objects_to_remove") == []


class TestLostUploads:
    LOST = "products/{:08d}-0000-4000-8000-000000000000-0123456789ab.jpg"

    @pytest.fixture
    def put(self, owner: Database) -> Any:
        def put(names: list[str], age: str = "2 hours") -> None:
            owner.execute(
                "insert into storage.objects (bucket_id, name, created_at)"
                " select 'plant-images', name, now() - %s::interval from unnest(%s::text[]) as name", age, names,
            )  # fmt: skip

        yield put
        owner.execute("select set_config('storage.allow_delete_query', 'true', false)")
        owner.execute("delete from storage.objects where true")

    def test_they_are_found_wherever_they_stand(self, database: Database, put: Any) -> None:
        """A thousand names a turn: the search goes on where it ended, and begins anew at the end."""
        put([self.LOST.format(number) for number in range(1500)])
        assert [maintain(database)["uploads_lost"] for _ in range(4)] == [1000, 500, 0, 0]
        put([self.LOST.format(2000)])
        assert sum(maintain(database)["uploads_lost"] for _ in range(2)) == 1

    def test_what_is_young_or_not_ours_is_left_alone(self, database: Database, put: Any) -> None:
        put([self.LOST.format(1)], age="50 minutes")
        put(["products/temp/reve_x.png", "products/processed/x_v1.png", "products/photo.jpg", "products/abc.jpg",
             "elsewhere/" + self.LOST.format(2)])  # fmt: skip
        assert maintain(database)["uploads_lost"] == 0
