"""`claim_runs_v1`: one winner, by priority and age, and every crash counted."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from tests.sql.conftest import Connect
from tests.sql.database import Database, Run
from tests.sql.outcomes import assert_lease_lost, error_of
from tests.sql.races import all_at_once, overtake


def test_eight_workers_share_two_hundred_runs_and_none_is_claimed_twice(connect: Connect, database: Database) -> None:
    created = {database.create_product().run_id for _ in range(200)}

    def claim_until_empty(number: int, worker: Database) -> list[Run]:
        claimed: list[Run] = []
        while batch := worker.claim(f"worker-{number}", 3):
            claimed += batch
        return claimed

    by_worker = all_at_once([connect() for _ in range(8)], claim_until_empty)

    claims = Counter(run.run_id for claimed in by_worker for run in claimed)
    assert set(claims) == created
    assert set(claims.values()) == {1}
    assert database.value("select count(*) from public.runs where attempts <> 1 or status <> 'processing'") == 0
    assert len({run.lease for claimed in by_worker for run in claimed}) == 200


def test_runs_are_claimed_by_priority_then_by_age(database: Database) -> None:
    old, new = database.create_product(), database.create_product()
    urgent = database.create_product(run={"priority": 10})
    idle = database.create_product(run={"priority": -10})

    claimed = [database.claim()[0].run_id for _ in range(4)]

    assert claimed == [urgent.run_id, old.run_id, new.run_id, idle.run_id]


def test_a_batch_comes_in_the_same_order(database: Database) -> None:
    old, urgent = database.create_product(), database.create_product(run={"priority": 10})
    assert [run.run_id for run in database.claim(places=5)] == [urgent.run_id, old.run_id]


def test_a_run_that_is_put_off_is_not_taken_before_its_time(database: Database) -> None:
    run = database.claimed_product()
    database.call("hand_back_v1", **run.held, delay_s=3600, reason="The provider does not answer.")
    assert database.claim() == []
    database.execute("update public.runs set run_at = now()")
    assert [again.run_id for again in database.claim()] == [run.run_id]


def test_a_claim_counts_the_attempt_and_tells_the_product(database: Database) -> None:
    run = database.claimed_product()
    row = database.run(run.run_id)
    assert (row["attempts"], row["locked_by"], row["lease_token"]) == (1, "worker", str(run.lease))
    assert database.product(run.product_id)["status"] == "processing"
    assert database.events(run.product_id) == [(1, "run.queued"), (2, "run.started")]


def test_a_claim_carries_what_the_worker_needs(database: Database) -> None:
    created = database.create_product(run={"params": {"steps": 4}, "priority": 3})
    (claimed,) = database.call_all("claim_runs_v1", worker="worker", places=1, lease_s=30)
    assert claimed["params"] == {"steps": 4}
    assert (claimed["recipe"], claimed["pack"], claimed["pack_version"]) == ("storefront", "jewellery", 1)
    assert (claimed["generation"], claimed["base_generation"], claimed["attempts"]) == (0, 0, 1)
    assert claimed["raw"]["key"] == f"products/{created.product_id}-1.jpg"
    assert claimed["raw"]["bytes"] == 1000
    assert claimed["age_s"] >= 0
    assert claimed["event_seq"] == 2


def test_an_empty_queue_and_no_places_claim_nothing(database: Database) -> None:
    assert database.claim() == []
    database.create_product()
    assert database.claim(places=0) == []


def test_a_claim_passes_by_a_run_that_another_is_claiming(connect: Connect, database: Database) -> None:
    """Skip locked: the second worker takes the next run at once instead of waiting for the first."""
    first, second = database.create_product(), database.create_product()
    mine, theirs = overtake(
        (connect(), lambda worker: worker.claim("first")), (connect(), lambda worker: worker.claim("second"))
    )
    assert [run.run_id for run in mine + theirs] == [first.run_id, second.run_id]


class TestExpiredLease:
    def test_is_taken_before_what_waits(self, database: Database) -> None:
        dead = database.claimed_product()
        database.expire_lease(dead)
        waiting = database.create_product(run={"priority": 100})
        taken, next_taken = database.claim_expired("other", places=2)
        assert (taken.run_id, next_taken.run_id) == (dead.run_id, waiting.run_id)
        assert taken.lease != dead.lease
        assert database.run(dead.run_id)["attempts"] == 2

    def test_is_taken_by_one_of_two(self, connect: Connect, database: Database) -> None:
        dead = database.claimed_product()
        database.expire_lease(dead)
        mine, theirs = overtake(
            (connect(), lambda worker: worker.claim_expired("first")),
            (connect(), lambda worker: worker.claim_expired("second")),
        )
        assert [run.run_id for run in mine] == [dead.run_id]
        assert theirs == []

    def test_is_left_to_a_heartbeat_that_comes_first(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        database.expire_lease(run)
        leases = [{"run_id": str(run.run_id), "lease_token": str(run.lease)}]
        renewed, taken = overtake(
            (connect(), lambda holder: holder.call_all(
                "heartbeat_v1", worker="worker", slots=1, lease_s=30, leases=leases)),
            (connect(), lambda worker: worker.claim_expired("other")),
        )  # fmt: skip
        assert (renewed, taken) == ([run.run_id], [])

    def test_does_not_come_back_to_the_worker_that_still_works_on_it(self, database: Database) -> None:
        run = database.claimed_product()
        database.expire_lease(run)
        assert database.claim("worker", lease_s=1, holding=[run.run_id]) == []
        assert [other.run_id for other in database.claim("worker", lease_s=1, holding=[uuid4()])] == [run.run_id]

    def test_is_spared_by_a_worker_that_was_cut_off_itself(self, database: Database) -> None:
        run = database.claimed_product()
        database.expire_lease(run)
        assert database.claim("other", lease_s=1, take_expired=False) == []

    def test_is_spared_for_one_lease_after_a_start_of_postgres(self, database: Database) -> None:
        """Every holder was cut off by the restart, and gets the time to renew."""
        run = database.claimed_product()
        database.expire_lease(run)
        assert database.claim("other", lease_s=365 * 24 * 3600) == []
        assert len(database.claim_expired("other")) == 1


class TestPoison:
    """A run that kills its worker each time."""

    def test_is_set_aside_after_its_last_attempt_and_the_queue_moves_on(self, database: Database) -> None:
        poison = database.create_product(run={"max_attempts": 2, "priority": 100})
        good = database.create_product()
        for _ in range(2):
            (run,) = database.claim_expired()
            assert run.run_id == poison.run_id
            database.expire_lease(run)

        assert [run.run_id for run in database.claim_expired()] == [good.run_id]

        row = database.run(poison.run_id)
        assert (row["status"], row["error_code"], row["attempts"]) == ("failed", "worker_lost", 2)
        product = database.product(poison.product_id)
        assert product["status"] == "failed"
        assert product["error_message"] == "Its worker died 2 times while working on this picture."
        assert database.events(poison.product_id)[-1][1] == "run.failed"

    def test_that_lives_after_all_learns_that_its_lease_is_lost(self, database: Database) -> None:
        """Its result must not seem to be stored; the paid pictures are found again by the next run."""
        run = database.claimed_product(run={"max_attempts": 1})
        database.expire_lease(run)
        assert database.claim_expired("other") == []
        assert_lease_lost(lambda: database.complete(run))
        assert database.product(run.product_id)["status"] == "failed"

    def test_cannot_be_made_by_a_limit_of_no_attempts(self, database: Database) -> None:
        """Such a run would make every claim fail that meets it."""
        error = error_of(lambda: database.create_product(run={"max_attempts": 0}))
        assert error.diag.constraint_name == "runs_max_attempts_positive"
