"""Eight workers, a heartbeat and an API at once on one database: no deadlock, nothing lost, nothing bought twice."""

from __future__ import annotations

import threading
from functools import partial
from uuid import UUID

from tests.sql.conftest import Connect
from tests.sql.database import CUTOUT_MICROS, SCENE_MICROS, SCENES, Database, Run, wanted_step
from tests.sql.outcomes import RUN_ACTIVE
from tests.sql.races import all_at_once, outcome_of

PRODUCTS, WORKERS = 24, 8
PLAN = {name: {"state": "waiting", "label": name} for name in ("cutout", *SCENES)}
NO_CAP = {"day": 10**12}


def process(worker: Database, run: Run, generation: int) -> None:
    for names, plan in ((("cutout",), PLAN), (SCENES, None)):
        steps = [wanted_step(run, name, generation if name in SCENES else 0) for name in names]
        for name, verdict in zip(names, worker.begin(run, steps=steps, plan=plan, limits=NO_CAP), strict=True):
            if verdict["verdict"] == "buy":
                call = UUID(verdict["call_id"])
                worker.call("send_call_v1", **run.held, call=call)
                worker.finish_call(call)
            worker.finish_step(run, name)
    worker.complete(run)


def test_all_products_are_finished_and_paid_once(connect: Connect, database: Database) -> None:
    products = [database.create_product().product_id for _ in range(PRODUCTS)]
    all_restarted = threading.Event()

    def work(number: int, worker: Database) -> None:
        unfinished = "select exists (select from public.runs where completed_at is null)"
        while not all_restarted.is_set() or worker.value(unfinished):
            claimed = worker.claim(f"worker-{number}", 2)
            leases = [{"run_id": str(run.run_id), "lease_token": str(run.lease)} for run in claimed]
            worker.call_all("heartbeat_v1", worker=f"worker-{number}", slots=2, lease_s=60, leases=leases)
            for run in claimed:
                process(worker, run, worker.run(run.run_id)["generation"])

    def restart(api: Database) -> None:
        """Processes every product once more; while it is worked on, that is refused."""
        waiting = list(products)
        try:
            while waiting:
                product_id = waiting.pop(0)
                outcome = outcome_of(api, partial(Database.start_run, product_id=product_id))
                if isinstance(outcome, Exception):
                    assert getattr(outcome, "sqlstate", outcome) == RUN_ACTIVE
                    waiting.append(product_id)
        finally:
            all_restarted.set()

    all_at_once(
        [connect() for _ in range(WORKERS + 1)],
        lambda number, connection: work(number, connection) if number < WORKERS else restart(connection),
    )

    assert database.rows("select distinct status from public.runs") == [("completed",)]
    assert database.value("select count(*) from public.runs") == 2 * PRODUCTS
    assert database.value("select count(*) from public.calls") == PRODUCTS * (
        1 + 2 * len(SCENES)
    )  # one cut-out for both
    assert database.budget() == (0, PRODUCTS * (CUTOUT_MICROS + 2 * len(SCENES) * SCENE_MICROS))
    gaps = "select product_id from public.events group by product_id having max(seq) <> count(*)"
    assert database.rows(gaps) == []
