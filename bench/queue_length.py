"""What a claim costs when the queue is long and when much history is kept. On a Postgres of its own, by direct SQL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.figures import median, percentile
from embedded.postgres import PostgresServer
from scripts.migrate import migrate

PLACES = 10

_CLAIM = "select public.claim_runs_v1(%s, %s, 30)"

_FILL = """
with filler as materialized (
  select gen_random_uuid() as product_id, number from generate_series(1, %(count)s) as number),
new_products as (
  insert into public.products (id, status, run_no) select product_id, %(status)s, 1 from filler returning id),
private as (
  insert into public.product_private
    (product_id, raw_bucket, raw_key, raw_media_type, raw_sha256, raw_bytes, raw_width, raw_height)
  select id, 'b', 'k', 'image/jpeg', repeat('0', 64), 1, 1, 1 from new_products returning product_id)
insert into public.runs
  (product_id, run_no, recipe, generation, base_generation, max_attempts, attempts, status, completed_at, run_at)
select private.product_id, 1, 'storefront', 0, 0, 3, case %(status)s when 'completed' then 1 else 0 end, %(status)s,
  case %(status)s when 'completed' then now() end, now() - random() * interval '1 hour'
from private
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimCost:
    queued: int
    finished: int
    p50_ms: float
    p99_ms: float
    blocks: int  #: of 8 kB that one claim looks at, in memory or not: the same on every machine, however busy


def measure_claims(folder: Path, *, queued: Sequence[int], finished: int, times: int) -> list[ClaimCost]:
    """Claims of ten runs, rolled back each time: first with growing queues, then the least one with `finished` rows."""
    server = PostgresServer(folder / "claims")
    server.start()
    try:
        server.bootstrap()
        migrate(server.dsn("postgres"))
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("set synchronous_commit = off")
            connection.execute("set session_replication_role = replica")  # no foreign keys to check while filling
            costs = []
            for length in queued:
                _empty(connection)
                _fill(connection, length, "pending")
                costs.append(_claim(connection, queued=length, finished=0, times=times))
            _empty(connection)
            _fill(connection, finished, "completed")
            _fill(connection, queued[0], "pending")
            costs.append(_claim(connection, queued=queued[0], finished=finished, times=times))
            return costs
    finally:
        server.stop()


def _empty(connection: psycopg.Connection[Any]) -> None:
    connection.execute("truncate public.products, public.runs, public.product_private, public.events cascade")


def _fill(connection: psycopg.Connection[Any], count: int, status: str) -> None:
    with psycopg.ClientCursor(connection) as cursor:
        cursor.execute(_FILL, {"count": count, "status": status})


def _claim(connection: psycopg.Connection[Any], *, queued: int, finished: int, times: int) -> ClaimCost:
    connection.execute("vacuum analyze")
    waits = []
    for _ in range(times):
        with connection.transaction(force_rollback=True):
            started = time.perf_counter()
            rows = connection.execute(_CLAIM, ("bench", PLACES)).fetchall()
            waits.append(time.perf_counter() - started)
        assert len(rows) == PLACES
    return ClaimCost(
        queued=queued,
        finished=finished,
        p50_ms=1000 * median(waits),
        p99_ms=1000 * percentile(waits, 0.99),
        blocks=_blocks_of_claim(connection),
    )


def _blocks_of_claim(connection: psycopg.Connection[Any]) -> int:
    with connection.transaction(force_rollback=True):
        row = connection.execute(
            f"explain (analyze, buffers, format json) {_CLAIM}".encode(), ("bench", PLACES)
        ).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])
