"""What the API does in one call: a product with its first run, further runs, repeats with an Idempotency-Key."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import SCENES, Database, Run, upload, what_to_run
from tests.sql.outcomes import KEY_USED, NOT_FOUND, NOTHING_TO_PROCESS, RUN_ACTIVE, error_of
from tests.sql.races import all_at_once, overtake


def request(key: str = "key-1", request_hash: str = "hash-1", owner: str = "shop") -> dict[str, str]:
    return {"owner": owner, "key": key, "request_hash": request_hash}


def finished(database: Database, *, failed_scenes: tuple[str, ...] = (), fails: bool = False) -> Run:
    """A product whose latest run has ended."""
    run = database.claimed_product()
    if fails:
        database.fail(run)
    else:
        database.complete(run, failed_scenes=failed_scenes)
    return run


def generations(database: Database, run: Run) -> tuple[int, int]:
    """(of scenes, of cut-out and the like) that a run works with."""
    row = database.run(run.run_id)
    return row["generation"], row["base_generation"]


class TestCreateProduct:
    def test_makes_the_product_its_private_part_its_run_and_its_first_event(self, database: Database) -> None:
        run = database.create_product(product={"title": "Gold ring", "jewellery_type": "ring"})
        product = database.product(run.product_id)
        assert (product["title"], product["jewellery_type"], product["visibility"]) == ("Gold ring", "ring", "public")
        assert (product["status"], product["run_no"], product["generated_image_urls"]) == ("pending", 1, [])
        assert product["image_url"] == product["raw_image_url"] == upload(run.product_id)["url"]
        assert database.value("select raw_bytes from public.product_private") == 1000
        assert database.run(run.run_id)["status"] == "pending"
        assert database.events(run.product_id) == [(1, "run.queued")]

    def test_without_a_title_it_is_untitled(self, database: Database) -> None:
        run = database.create_product(product={"title": None})
        assert database.product(run.product_id)["title"] == "Untitled"

    def test_rings_the_workers(self, database: Database, owner: Database) -> None:
        count = "select count(*) from realtime.messages where topic = 'vitrine-runs' and event = 'look' and private"
        before = owner.value(count)
        database.create_product()
        assert owner.value(count) == before + 1

    def test_is_not_undone_by_a_bell_that_cannot_ring(self, owner: Database) -> None:
        with owner.connection.transaction(force_rollback=True):
            owner.execute("alter function realtime.send(jsonb, text, text, boolean) rename to gone")
            owner.execute("set local role service_role")
            run = owner.create_product()
            assert owner.run(run.run_id)["status"] == "pending"

    @pytest.mark.parametrize(
        ("product", "constraint"),
        [
            ({"title": "t" * 501}, "products_title_short"),
            ({"jewellery_type": "t" * 201}, "products_jewellery_type_short"),
            ({"visibility": "secret"}, "products_visibility_known"),
        ],
    )
    def test_leaves_nothing_behind_when_it_is_refused(
        self, database: Database, product: dict[str, str], constraint: str
    ) -> None:
        error = error_of(lambda: database.create_product(product=product, request=request()))
        assert error.diag.constraint_name == constraint
        for table in ("products", "product_private", "runs", "events", "idempotency_keys"):
            assert database.value(f"select count(*) from public.{table}") == 0


class TestIdempotencyKey:
    def test_ten_repeats_at_once_make_one_product(self, connect: Connect, database: Database) -> None:
        def create(number: int, api: Database) -> tuple[UUID, bool]:
            answer = api.call(
                "create_product_v1",
                product={"id": str(uuid4())},
                raw=upload("x"),
                run=what_to_run(),
                request=request(),
            )
            return answer["product_id"], answer["replayed"]

        answers = all_at_once([connect() for _ in range(10)], create)

        assert len({product_id for product_id, _ in answers}) == 1
        assert sorted(replayed for _, replayed in answers) == [False] + [True] * 9
        assert database.value("select count(*) from public.products") == 1
        assert database.value("select count(*) from public.runs") == 1

    def test_a_repeat_gets_the_same_answer(self, database: Database) -> None:
        arguments: dict[str, Any] = {
            "product": {"id": str(uuid4())},
            "raw": upload("x"),
            "run": what_to_run(),
            "request": request(),
        }
        first = database.call("create_product_v1", **arguments)
        again = database.call("create_product_v1", **arguments)
        assert again == first | {"replayed": True}

    def test_with_another_request_it_is_refused(self, database: Database) -> None:
        database.create_product(request=request())
        error = error_of(lambda: database.create_product(request=request(request_hash="hash-2")))
        assert error.sqlstate == KEY_USED

    def test_of_another_owner_is_another_key(self, database: Database) -> None:
        first = database.create_product(request=request())
        assert database.create_product(request=request(owner="other")).product_id != first.product_id

    def test_is_forgotten_after_a_day(self, database: Database) -> None:
        first = database.create_product(request=request())
        database.execute("update public.idempotency_keys set created_at = now() - interval '25 hours'")
        assert database.create_product(request=request(request_hash="hash-2")).product_id != first.product_id

    def test_of_a_request_that_failed_is_free_again(self, database: Database) -> None:
        error_of(lambda: database.create_product(product={"title": "t" * 501}, request=request()))
        database.create_product(request=request(request_hash="hash-2"))

    def test_of_a_start_that_was_answered_names_the_same_run(self, database: Database) -> None:
        """The first start made the product busy; its repeat must not be told so."""
        run = finished(database)
        first = database.start_run(run.product_id, request=request())
        assert database.start_run(run.product_id, request=request()) == first

    def test_waits_for_the_first_request_to_commit(self, connect: Connect) -> None:
        first, again = overtake(
            (connect(), lambda api: api.create_product(request=request())),
            (connect(), lambda api: api.create_product(request=request())),
        )
        assert again == first


class TestStartRun:
    def test_after_a_whole_result_new_scenes_are_bought_on_the_same_cutout(self, database: Database) -> None:
        run = finished(database)
        assert generations(database, database.start_run(run.product_id)) == (1, 0)

    def test_after_a_failure_only_what_is_missing_is_bought(self, database: Database) -> None:
        run = finished(database, fails=True)
        assert generations(database, database.start_run(run.product_id)) == (0, 0)

    def test_after_a_partial_result_only_what_is_missing_is_bought(self, database: Database) -> None:
        run = finished(database, failed_scenes=SCENES[:1])
        assert generations(database, database.start_run(run.product_id)) == (0, 0)

    def test_after_a_failed_renewal_the_renewal_is_completed(self, database: Database) -> None:
        run = finished(database)
        database.start_run(run.product_id)
        (second,) = database.claim()
        database.fail(second)
        assert generations(database, database.start_run(run.product_id)) == (1, 0)

    @pytest.mark.parametrize("fails", [True, False])
    def test_fresh_renews_everything_whatever_came_before(self, database: Database, fails: bool) -> None:
        run = finished(database, fails=fails)
        assert generations(database, database.start_run(run.product_id, fresh=True)) == (1, 1)

    def test_what_fresh_began_is_completed_by_the_next_run(self, database: Database) -> None:
        run = finished(database)
        database.start_run(run.product_id, fresh=True)
        (second,) = database.claim()
        database.fail(second)
        assert generations(database, database.start_run(run.product_id)) == (1, 1)

    def test_shows_the_old_result_until_the_new_one_is_whole(self, database: Database) -> None:
        run = finished(database)
        before = database.product(run.product_id)
        second = database.start_run(run.product_id)
        product = database.product(run.product_id)
        for column in ("generated_image_urls", "image_url", "variants"):
            assert product[column] == before[column]
        assert (product["status"], product["run_no"], product["progress"]) == ("pending", 2, {})
        assert second.run_no == 2

    def test_clear_empties_the_array_at_once(self, database: Database) -> None:
        run = finished(database)
        database.start_run(run.product_id, clear=True)
        product = database.product(run.product_id)
        assert product["generated_image_urls"] == []
        assert product["image_url"] == product["raw_image_url"]

    def test_a_new_upload_replaces_the_old_one_beside_the_scenes(self, database: Database) -> None:
        run = finished(database)
        before = database.product(run.product_id)
        raw = upload(run.product_id, revision=2)
        database.start_run(run.product_id, raw=raw)
        product = database.product(run.product_id)
        assert (product["raw_image_url"], product["image_url"]) == (raw["url"], before["image_url"])
        assert database.value("select raw_key from public.product_private") == raw["key"]

    def test_a_new_upload_is_shown_where_there_are_no_scenes_yet(self, database: Database) -> None:
        run = finished(database, fails=True)
        raw = upload(run.product_id, revision=2)
        database.start_run(run.product_id, raw=raw)
        assert database.product(run.product_id)["image_url"] == raw["url"]

    def test_a_title_may_change_on_the_way(self, database: Database) -> None:
        run = finished(database)
        database.start_run(run.product_id, run=what_to_run(title="Silver ring"))
        product = database.product(run.product_id)
        assert (product["title"], product["jewellery_type"]) == ("Silver ring", None)

    def test_while_a_run_is_active_it_is_refused_and_told_which(self, database: Database) -> None:
        run = database.create_product()
        for _ in range(2):  # while it waits, and while a worker has it
            error = error_of(lambda: database.start_run(run.product_id))
            assert error.sqlstate == RUN_ACTIVE
            assert json.loads(error.diag.message_detail or "") == {"run_id": str(run.run_id)}
            database.claim()

    def test_of_a_product_that_is_not_there(self, database: Database) -> None:
        assert error_of(lambda: database.start_run(uuid4())).sqlstate == NOT_FOUND

    def test_of_a_row_from_before_needs_the_file_once(self, database: Database) -> None:
        old = database.value("insert into public.products (title, status) values ('Old', 'completed') returning id")
        assert error_of(lambda: database.start_run(old)).sqlstate == NOTHING_TO_PROCESS
        run = database.start_run(old, raw=upload(old))
        assert run.run_no == 1
        (claimed,) = database.claim()
        assert claimed.product_id == old
        assert database.events(old) == [(1, "run.queued"), (2, "run.started")]

    def test_the_number_goes_on_when_old_runs_are_cleared_away(self, database: Database) -> None:
        """A client that sees a higher number knows that the pictures are new."""
        run = finished(database)
        database.execute("delete from public.runs")
        assert database.start_run(run.product_id).run_no == 2

    def test_two_at_once_start_one(self, connect: Connect, database: Database) -> None:
        run = finished(database)
        started, refused = overtake(
            (connect(), lambda api: api.start_run(run.product_id)),
            (connect(), lambda api: api.start_run(run.product_id)),
        )
        assert started.run_no == 2
        assert refused.sqlstate == RUN_ACTIVE

    def test_waits_for_a_run_that_ends_at_this_moment(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        _, started = overtake(
            (connect(), lambda worker: worker.complete(run)), (connect(), lambda api: api.start_run(run.product_id))
        )
        assert generations(database, started) == (1, 0)

    def test_just_before_a_run_ends_is_refused(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        refused, ended = overtake(
            (connect(), lambda api: api.start_run(run.product_id)), (connect(), lambda worker: worker.complete(run))
        )
        assert (refused.sqlstate, ended) == (RUN_ACTIVE, None)
        assert database.product(run.product_id)["status"] == "completed"


def test_health_counts_what_waits_and_how_long(database: Database) -> None:
    empty = {"pending": 0, "processing": 0, "oldest_pending_s": 0, "workers": 0}
    assert database.call("queue_health_v1") == empty
    database.claimed_product()
    database.create_product()
    database.execute("update public.runs set run_at = now() - interval '90 s' where status = 'pending'")
    assert database.call("queue_health_v1") == {"pending": 1, "processing": 1, "oldest_pending_s": 90.0, "workers": 0}


def test_what_is_put_off_does_not_count_as_waiting_long(database: Database) -> None:
    run = database.claimed_product()
    database.call("hand_back_v1", **run.held, delay_s=60)
    health = database.call("queue_health_v1")
    assert (health["pending"], health["oldest_pending_s"]) == (1, 0)
