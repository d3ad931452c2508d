"""A migrated database, empty for each test, and connections to it by role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import PostgresWithTemplates
from tests.sql.database import Database
from tests.sql.server import do_not_wait_for_the_disk, prepare_migrated, wait_for_expiring_leases

Connect = Callable[..., Database]


def empty(database: Database) -> None:
    """Delete all rows of all our tables."""
    for (table,) in database.rows("select tablename from pg_tables where schemaname = 'public'"):
        database.execute(f'delete from public."{table}"')


@pytest.fixture(scope="session")
def migrated(postgres: PostgresWithTemplates) -> PostgresWithTemplates:
    """The server, with a template `migrated`."""
    do_not_wait_for_the_disk(postgres.server)
    postgres.add_template("migrated", prepare_migrated)
    wait_for_expiring_leases(postgres.server)
    return postgres


@pytest.fixture(scope="session")
def shared_dsn(migrated: PostgresWithTemplates) -> str:
    """One migrated database for the session, as role `postgres`; `dsn` is the same, emptied."""
    return migrated.server.dsn("postgres", dbname=migrated.create_database("migrated"))


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    owner = Database(shared_dsn, "postgres")
    empty(owner)
    owner.execute("delete from auth.users")
    owner.connection.close()
    return shared_dsn


@pytest.fixture
def connect(dsn: str) -> Iterator[Connect]:
    """A function that opens one more connection to this test's database: `connect(role="service_role")`."""
    with ExitStack() as open_connections:

        def open_connection(role: str = "service_role") -> Database:
            database = Database(dsn, role)
            open_connections.callback(database.connection.close)
            return database

        yield open_connection


@pytest.fixture
def database(connect: Connect) -> Database:
    """What the API and the worker have: the service role."""
    return connect()


@pytest.fixture
def owner(connect: Connect) -> Database:
    """Role `postgres`, to which all belongs."""
    return connect("postgres")
