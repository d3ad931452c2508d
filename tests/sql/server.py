"""A Postgres server made ready for tests of SQL."""

from __future__ import annotations

import time

import psycopg

from embedded.postgres import PostgresServer
from scripts.migrate import migrate


def do_not_wait_for_the_disk(server: PostgresServer) -> None:
    """No test of SQL pulls the plug."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("alter system set fsync = off")
        connection.execute("alter system set full_page_writes = off")
        connection.execute("select pg_reload_conf()")


def wait_for_expiring_leases(server: PostgresServer) -> None:
    """Leases of a second, the shortest, are honoured for that long after a start of Postgres."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        statement = "select now() > pg_postmaster_start_time() + interval '1 second'"
        while connection.execute(statement).fetchone() != (True,):
            time.sleep(0.05)


def prepare_migrated(server: PostgresServer, dbname: str) -> None:
    """Fill a template database with what a project has after the last migration."""
    server.bootstrap(dbname)
    migrate(server.dsn("postgres", dbname=dbname))
