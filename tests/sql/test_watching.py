"""What a watcher is told: progress, numbered events, few updates of small rows."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import SCENES, Database, Run
from tests.sql.outcomes import error_of
from tests.sql.races import all_at_once, overtake

STEPS = ("cutout", *SCENES)
PLAN = {name: {"state": "waiting", "label": name.title()} for name in STEPS}
#: A message of Realtime may be 1 MB, and carries the new row.
MAX_ROW_BYTES = 64 * 1024
URLS_SMALL = "products_generated_image_urls_is_small_array"


def do_everything(database: Database, run: Run) -> None:
    """A clean run of the storefront recipe, call by call as the worker does it."""
    (verdict,) = database.begin(run, "cutout", plan=PLAN)
    settle(database, run, "cutout", verdict)
    for name, scene_verdict in zip(SCENES, database.begin(run, *SCENES), strict=True):
        settle(database, run, name, scene_verdict)
    database.complete(run)


def settle(database: Database, run: Run, name: str, verdict: dict[str, str]) -> None:
    call = UUID(verdict["call_id"])
    database.call("send_call_v1", **run.held, call=call)
    database.finish_call(call)
    database.finish_step(run, name)


class TestProgress:
    def test_begins_with_the_plan(self, database: Database) -> None:
        run = database.claimed_product()
        database.begin(run, "cutout", plan=PLAN)
        assert database.product(run.product_id)["progress"] == {"done": 0, "total": 5, "steps": PLAN}

    def test_shows_each_step_under_its_name(self, database: Database) -> None:
        run = database.claimed_product()
        database.begin(run, "cutout", plan=PLAN)
        database.do_step(run, "cutout")
        progress = database.product(run.product_id)["progress"]
        assert progress["done"] == 1
        assert progress["steps"]["cutout"] == {
            "state": "done",
            "label": "Cutout",
            "url": "https://shop.test/cutout.png",
        }
        assert progress["steps"][SCENES[0]] == PLAN[SCENES[0]]

    def test_counts_a_failed_step_as_over(self, database: Database) -> None:
        run = database.claimed_product()
        database.begin(run, "cutout", plan=PLAN)
        database.finish_step(run, "cutout", "failed")
        assert database.product(run.product_id)["progress"]["done"] == 1

    def test_loses_nothing_when_four_scenes_finish_at_once(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        database.begin(run, "cutout", plan=PLAN)
        database.begin(run, *SCENES)
        workers = [connect() for _ in SCENES]
        all_at_once(workers, lambda number, worker: worker.finish_step(run, SCENES[number]))
        progress = database.product(run.product_id)["progress"]
        assert progress["done"] == 4
        assert {name: progress["steps"][name]["state"] for name in SCENES} == dict.fromkeys(SCENES, "done")

    def test_survives_a_new_title_at_the_same_moment(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        database.begin(run, "cutout", plan=PLAN)
        overtake(
            (connect(), lambda api: api.execute("update public.products set title = 'New'")),
            (connect(), lambda worker: worker.finish_step(run, "cutout")),
        )
        product = database.product(run.product_id)
        assert (product["title"], product["progress"]["done"]) == ("New", 1)


class TestEvents:
    def test_tell_the_story_of_a_run_in_order(self, database: Database) -> None:
        run = database.claimed_product()
        do_everything(database, run)
        assert database.events(run.product_id) == list(
            enumerate(["run.queued", "run.started", *["step.done"] * 5, "run.completed"], start=1)
        )

    @pytest.mark.parametrize("state", ["done", "failed"])
    def test_are_not_told_twice_when_a_finish_is_repeated(self, database: Database, state: str) -> None:
        run = database.claimed_product()
        database.begin(run, "cutout")
        database.finish_step(run, "cutout", state)
        before = database.events(run.product_id)
        database.finish_step(run, "cutout", state)
        assert database.events(run.product_id) == before

    def test_have_no_gaps_when_writers_fail_or_compete(self, connect: Connect, database: Database) -> None:
        """Eight connections append, and every third of them rolls back what it wrote."""
        run = database.create_product()

        def append(number: int, writer: Database) -> None:
            for turn in range(10):
                with writer.connection.transaction(force_rollback=(number + turn) % 3 == 0):
                    writer.call("append_event_v1", product=run.product_id, run=None, kind="test", details={})

        all_at_once([connect() for _ in range(8)], append)
        numbers = [number for number, _ in database.events(run.product_id)]
        assert len(numbers) > 50
        assert numbers == list(range(1, len(numbers) + 1))

    def test_are_numbered_in_the_order_in_which_they_become_visible(self, connect: Connect, database: Database) -> None:
        """Who has seen number 5 never sees a number 4 appear later."""
        run = database.create_product()
        first, second = overtake(
            (connect(), lambda one: append_event(one, run)), (connect(), lambda other: append_event(other, run))
        )
        assert (first, second) == (2, 3)

    def test_of_another_product_do_not_wait(self, connect: Connect, database: Database) -> None:
        run, other = database.create_product(), database.create_product()
        writer, free = connect(), connect()
        with writer.connection.transaction():
            append_event(writer, run)
            free.execute("set lock_timeout = '5s'")
            assert append_event(free, other) == 2

    def test_of_a_product_that_is_gone_are_dropped(self, database: Database) -> None:
        run = database.create_product()
        database.execute("delete from public.products")
        assert append_event(database, run) is None


def append_event(database: Database, run: Run) -> int | None:
    number: int | None = database.call("append_event_v1", product=run.product_id, run=None, kind="test", details={})
    return number


class TestRow:
    @pytest.fixture
    def updates(self, owner: Database) -> Iterator[Database]:
        """Counts updates of products while the test runs: `select count(*) from updates_seen`."""
        owner.execute("create table public.updates_seen (at timestamptz)")
        owner.execute("grant insert, select on public.updates_seen to service_role")
        owner.execute(
            "create function public.count_update() returns trigger language plpgsql as"
            " 'begin insert into public.updates_seen values (now()); return null; end'"
        )
        owner.execute(
            "create trigger count_updates after update on public.products"
            " for each row execute function public.count_update()"
        )
        yield owner
        owner.execute("drop trigger count_updates on public.products")
        owner.execute("drop function public.count_update()")
        owner.execute("drop table public.updates_seen")

    def test_is_updated_at_most_eight_times_by_a_clean_run(self, updates: Database, database: Database) -> None:
        """Each update goes to every subscriber."""
        run = database.claimed_product()
        do_everything(database, run)
        assert updates.value("select count(*) from public.updates_seen") <= 8

    def test_is_not_updated_by_heartbeats_and_calls(self, updates: Database, database: Database) -> None:
        run = database.claimed_product()
        updates.execute("delete from public.updates_seen")
        leases = [{"run_id": str(run.run_id), "lease_token": str(run.lease)}]
        database.call("heartbeat_v1", worker="worker", slots=1, lease_s=30, leases=leases)
        database.finish_call(database.buy(run, "cutout"))
        assert updates.value("select count(*) from public.updates_seen") == 0

    @pytest.mark.parametrize(
        ("assignment", "constraint"),
        [
            ("title = repeat('é', 501)", "products_title_short"),
            ("jewellery_type = repeat('é', 201)", "products_jewellery_type_short"),
            ("error_message = repeat('é', 501)", "products_error_message_short"),
            ("image_url = repeat('u', 2049)", "products_urls_short"),
            ("raw_image_url = repeat('u', 2049)", "products_urls_short"),
            ("variants = jsonb_build_array(repeat('v', 16384))", "products_variants_is_small_array"),
            ("progress = jsonb_build_object('p', repeat('p', 16384))", "products_progress_is_small_object"),
            ("generated_image_urls = jsonb_build_array(repeat('u', 8192))", URLS_SMALL),
            ("variants = '{}'", "products_variants_is_small_array"),
            ("progress = '[]'", "products_progress_is_small_object"),
            ("generated_image_urls = 'null'", URLS_SMALL),
            ("status = 'done'", "products_status_known"),
        ],
    )  # fmt: skip
    def test_has_a_bound_on_every_column(self, database: Database, assignment: str, constraint: str) -> None:
        database.create_product()
        error = error_of(lambda: database.execute(f"update public.products set {assignment}"))
        assert error.diag.constraint_name == constraint

    def test_stays_small_with_every_column_at_its_bound(self, database: Database) -> None:
        database.create_product()
        database.execute(
            "update public.products set title = repeat('é', 500), jewellery_type = repeat('é', 200),"
            " error_message = repeat('é', 500), image_url = repeat('u', 2048), raw_image_url = repeat('u', 2048),"
            " variants = jsonb_build_array(repeat('v', 16380)), progress = jsonb_build_object('p', repeat('p', 16370)),"
            " generated_image_urls = jsonb_build_array(repeat('u', 8188))"
        )
        assert database.value("select octet_length(to_jsonb(p)::text) from public.products p") < MAX_ROW_BYTES

    def test_of_a_usual_product_is_a_few_kilobytes(self, database: Database) -> None:
        run = database.claimed_product()
        do_everything(database, run)
        assert database.value("select octet_length(to_jsonb(p)::text) from public.products p") < 4096


class TestDeletedProduct:
    def test_keeps_what_was_spent_and_takes_the_rest_along(self, database: Database) -> None:
        run = database.claimed_product()
        do_everything(database, run)
        spent = database.budget()
        database.execute("delete from public.products where id = %s", run.product_id)
        for table in ("product_private", "runs", "steps", "events"):
            assert database.value(f"select count(*) from public.{table}") == 0
        assert database.rows("select distinct product_id, run_id, state from public.calls") == [(None, None, "done")]
        assert database.value("select sum(settled_micros) from public.calls") == spent[1]
        assert database.budget() == spent

    @pytest.mark.parametrize("deleted_first", [True, False])
    def test_at_the_moment_when_its_run_works_leaves_either_all_or_nothing(
        self, connect: Connect, database: Database, deleted_first: bool
    ) -> None:
        """Postgres may break a deadlock between the two; whoever is refused has changed nothing and may try again."""
        run = database.claimed_product()
        database.begin(run, "cutout", plan=PLAN)
        delete = (connect(), lambda api: api.execute("delete from public.products where id = %s", run.product_id))
        finish = (connect(), lambda worker: worker.finish_step(run, "cutout"))
        outcomes = overtake(delete, finish) if deleted_first else overtake(finish, delete)
        deleted, finished = outcomes if deleted_first else reversed(outcomes)
        assert deleted == 1
        assert finished is None or finished.sqlstate in ("VT001", "40P01")
        assert database.value("select count(*) from public.runs") == 0
