"""The database functions against their model, in many more random sequences than `make test` takes."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import start_postgres
from tests.sql.database import Database
from tests.sql.server import do_not_wait_for_the_disk, prepare_migrated, wait_for_expiring_leases
from tests.sql.test_random_sequences import Queue

STEPS = 60


def run_sequences(folder: Path, *, count: int) -> None:
    """Raise what the first sequence that breaks a promise raises, with the steps that lead there."""
    postgres = start_postgres(folder / "postgres", 18)
    try:
        do_not_wait_for_the_disk(postgres.server)
        postgres.add_template("migrated", prepare_migrated)
        wait_for_expiring_leases(postgres.server)
        Queue.database = Database(postgres.server.dsn(dbname=postgres.create_database("migrated")))
        try:
            run_state_machine_as_test(
                Queue,
                settings=settings(
                    max_examples=count,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                    print_blob=True,
                ),
            )
        finally:
            Queue.database.connection.close()
    finally:
        postgres.server.stop()
