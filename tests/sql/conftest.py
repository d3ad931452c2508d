"""A migrated database for each test, and connections to it by role."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from embedded.postgres import PostgresServer
from scripts.migrate import migrate
from tests.conftest import PostgresWithTemplates
from tests.sql.database import Database

Connect = Callable[..., Database]


def prepare_migrated(server: PostgresServer, dbname: str) -> None:
    server.bootstrap(dbname)
    migrate(server.dsn("postgres", dbname=dbname))
    # Leases of a second, the shortest, are honoured for that long after a start of Postgres.
    with psycopg.connect(server.dsn(dbname=dbname)) as connection:
        while connection.execute("select now() <= pg_postmaster_start_time() + interval '1 second'").fetchone() == (True,):
            connection.rollback()
            time.sleep(0.05)


@pytest.fixture(scope="session")
def migrated(postgres: PostgresWithTemplates) -> PostgresWithTemplates:
    """The server, with a template `migrated`."""
    postgres.server.bootstrap()  # makes the roles, which are the whole server's
    postgres.add_template("migrated", prepare_migrated)
    return postgres


@pytest.fixture
def dsn(migrated: PostgresWithTemplates) -> str:
    """A fresh migrated database, as role `postgres`."""
    return migrated.server.dsn("postgres", dbname=migrated.create_database("migrated"))


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
