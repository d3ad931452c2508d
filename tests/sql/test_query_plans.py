"""The hot functions stay cheap however much history is kept: they read by index, and few rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest

from tests.conftest import PostgresWithTemplates
from tests.sql.database import SCENES, Database, Run, wanted_step

FINISHED, QUEUED = 20_000, 5_000
WITH_STEPS = 4_000  # of the finished ones
WATCHED_TABLES = ("products", "product_private", "runs", "steps", "calls", "events")

FILL = """
create temporary table filler as
  select gen_random_uuid() as product_id, gen_random_uuid() as run_id, number <= %(finished)s as finished, number
  from generate_series(1, %(finished)s + %(queued)s) as number;
insert into public.products (id, status, run_no)
  select product_id, case when finished then 'completed' else 'pending' end, 1 from filler;
insert into public.product_private
  (product_id, raw_bucket, raw_key, raw_media_type, raw_sha256, raw_bytes, raw_width, raw_height, event_seq)
  select product_id, 'b', 'k', 'image/jpeg', repeat('0', 64), 1, 1, 1, 1 from filler;
insert into public.runs
  (id, product_id, run_no, recipe, generation, base_generation, max_attempts, attempts, status, completed_at, run_at)
  select run_id, product_id, 1, 'storefront', 0, 0, 3, finished::integer,
    case when finished then 'completed' else 'pending' end, case when finished then now() end,
    now() - number * interval '1 ms'
  from filler order by random();
insert into public.steps
  (run_id, product_id, name, input_hash, state, bucket, object_key, media_type, content_sha256, width, height,
   finished_at)
  select run_id, product_id, name, md5(product_id || name), 'done', 'b', 'k', 'image/png', 'x', 1, 1, now()
  from filler, unnest(%(names)s::text[]) as name where number <= %(with_steps)s;
insert into public.calls
  (id, run_id, product_id, step_name, input_hash, capability, provider, model, state, reserved_micros, settled_micros,
   bucket, object_key, media_type, content_sha256, width, height)
  select gen_random_uuid(), run_id, product_id, name, md5(product_id || name), 'generate', 'p', 'm', 'done', 1, 1,
    'b', 'k', 'image/png', 'x', 1, 1
  from filler, unnest(%(names)s::text[]) as name where number <= %(with_steps)s;
insert into public.events (product_id, seq, type) select product_id, 1, 'run.queued' from filler;
drop table filler;
"""


class Reads(NamedTuple):
    """What a transaction has read of a table so far."""

    sequential_scans: int
    rows_by_index: int


@pytest.fixture(scope="module")
def full_dsn(migrated: PostgresWithTemplates) -> str:
    dsn = migrated.server.dsn("postgres", dbname=migrated.create_database("migrated"))
    with psycopg.ClientCursor(psycopg.connect(dsn)) as cursor, cursor.connection:
        cursor.execute("set synchronous_commit = off")
        cursor.execute(FILL, {"finished": FINISHED, "queued": QUEUED, "with_steps": WITH_STEPS, "names": list(SCENES)})
    return dsn


@pytest.fixture(scope="module", params=["before statistics", "after statistics"])
def full(full_dsn: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A shop with history, before and after Postgres has counted its rows."""
    if request.param == "after statistics":
        with psycopg.connect(full_dsn, autocommit=True) as connection:
            connection.execute("analyze")
    database = Database(full_dsn)
    yield database
    database.connection.close()


def reads_of(database: Database, action: Callable[[], object]) -> dict[str, Reads]:
    """What `action` reads, by table. It is rolled back."""
    with database.connection.transaction(force_rollback=True):
        before = reads_so_far(database)
        action()
        after = reads_so_far(database)
    return {
        table: Reads(
            after[table].sequential_scans - before[table].sequential_scans,
            after[table].rows_by_index - before[table].rows_by_index,
        )
        for table in WATCHED_TABLES
    }


def reads_so_far(database: Database) -> dict[str, Reads]:
    rows = database.rows(
        "select relname, coalesce(seq_scan, 0), coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables"
        " where schemaname = 'public'"
    )
    return {name: Reads(scans, fetched) for name, scans, fetched in rows}


def assert_cheap(reads: dict[str, Reads], most_rows: int) -> None:
    assert {table: read for table, read in reads.items() if read.sequential_scans} == {}
    assert {table: read for table, read in reads.items() if read.rows_by_index > most_rows} == {}


def test_a_claim_reads_about_as_many_runs_as_it_takes(full: Database) -> None:
    assert_cheap(reads_of(full, lambda: full.claim(places=8, lease_s=1)), most_rows=8 * 8)


def test_an_idle_claim_reads_next_to_nothing(full: Database) -> None:
    with full.connection.transaction(force_rollback=True):
        full.execute("update public.runs set run_at = now() + interval '1 hour' where status = 'pending'")
        # What is put off until later lies in the same index, behind the condition on the time.
        reads = reads_of(full, lambda: full.claim(places=8, lease_s=1))
    assert reads["runs"].sequential_scans == 0
    assert reads["runs"].rows_by_index == 0


def test_expired_leases_are_found_by_index(full: Database) -> None:
    with full.connection.transaction(force_rollback=True):
        for run in full.claim(places=8):
            full.expire_lease(run)
        assert_cheap(reads_of(full, lambda: full.claim(places=8, lease_s=1)), most_rows=8 * 10)


def test_a_heartbeat_reads_only_its_own_runs(full: Database) -> None:
    with full.connection.transaction(force_rollback=True):
        runs = full.claim(places=8)
        leases = [{"run_id": str(run.run_id), "lease_token": str(run.lease)} for run in runs]
        reads = reads_of(
            full, lambda: full.call_all("heartbeat_v1", worker="worker", slots=8, lease_s=30, leases=leases)
        )
    assert_cheap(reads, most_rows=8 * 2)


def test_the_steps_of_a_run_read_only_their_product(full: Database) -> None:
    with full.connection.transaction(force_rollback=True):
        (run,) = full.claim()

        def work() -> None:
            full.begin(run, *SCENES)
            for name in SCENES:
                full.do_step(run, name)
            full.complete(run)

        assert_cheap(reads_of(full, work), most_rows=200)


def test_a_finished_step_and_an_answered_call_are_found_by_index(full: Database) -> None:
    product_id: UUID = full.value("select product_id from public.steps limit 1")
    with full.connection.transaction(force_rollback=True):
        full.start_run(product_id, run={"recipe": "storefront", "max_attempts": 3, "priority": 100})
        (run,) = full.claim()
        assert run.product_id == product_id
        assert_cheap(reads_of(full, lambda: begin_all(full, run, "reuse")), most_rows=60)
        full.execute("delete from public.steps where product_id = %s", product_id)
        assert_cheap(reads_of(full, lambda: begin_all(full, run, "reuse")), most_rows=60)


def begin_all(database: Database, run: Run, verdict: str) -> None:
    input_hashes = dict(
        database.rows("select name, md5(%s || name) from unnest(%s::text[]) as name", str(run.product_id), list(SCENES))
    )
    steps = [wanted_step(run, name, input_hash=input_hashes[name]) for name in SCENES]
    assert [found["verdict"] for found in database.begin(run, steps=steps)] == [verdict] * len(SCENES)


def test_health_reads_what_is_active_and_not_the_history(full: Database) -> None:
    reads = reads_of(full, lambda: full.call("queue_health_v1"))
    assert reads["runs"].sequential_scans == 0
    assert reads["runs"].rows_by_index <= QUEUED + 10


def test_deleting_a_product_reads_only_what_belongs_to_it(full: Database) -> None:
    product_id = full.value("select product_id from public.steps limit 1")
    reads = reads_of(full, lambda: full.execute("delete from public.products where id = %s", product_id))
    assert_cheap(reads, most_rows=50)


@pytest.mark.parametrize("status", [None, "completed", "pending", "failed"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_page_of_products_reads_little_more_than_the_page(full: Database, status: str | None, deep: bool) -> None:
    after: dict[str, object] = {}
    if deep:
        time, product_id = full.row("select created_at, id from public.products order by created_at desc, id limit 1")
        after = {"after_time": time, "after_id": product_id}
    reads = reads_of(full, lambda: full.call_all("list_products_v1", places=50, wanted_status=status, **after))
    # Without statistics Postgres takes every status for a rare one, and sorts what it finds by index.
    counted = full.value("select count(*) > 0 from pg_stats where tablename = 'products'")
    assert_cheap(reads, most_rows=150 if counted else FINISHED + QUEUED)


def test_maintenance_reads_what_is_open_and_not_the_history(full: Database) -> None:
    settings = {"raw_bucket": "plant-images", "raw_folder": "products", "pending_hours": 24}
    reads = reads_of(full, lambda: full.call("maintenance_v1", settings=settings))
    assert {table: read for table, read in reads.items() if table != "runs" and read.sequential_scans} == {}
    assert reads["runs"].rows_by_index <= QUEUED + 10
    assert reads["calls"].rows_by_index <= 10
