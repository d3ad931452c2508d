"""Real neighbours for every test: an embedded Supabase, and a Postgres with a database per test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from embedded.postgres import PostgresServer, PostgresVersion
from tests.stack import RunningStack, start_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """One embedded Supabase for the whole session. Tests name their tables and users so that none meets another."""
    running = start_stack(tmp_path_factory.mktemp("stack"))
    yield running
    running.stop()


@dataclass(kw_only=True)
class PostgresWithTemplates:
    """A server whose databases are cloned from templates, which takes some 20 ms each."""

    server: PostgresServer
    _templates: dict[str, Callable[[PostgresServer, str], None]] = field(default_factory=dict)
    _ready: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def add_template(self, name: str, prepare: Callable[[PostgresServer, str], None]) -> None:
        """Register a template database; `prepare(server, dbname)` fills it when it is first asked for."""
        self._templates[name] = prepare

    def create_database(self, template: str = "bootstrapped") -> str:
        """A fresh database's name: `server.dsn("postgres", dbname=name)` connects to it."""
        if template not in self._ready:
            self._clone("template0", template)
            self._templates[template](self.server, template)
            self._ready.add(template)
        name = f"test_{next(self._numbers)}"
        self._clone(template, name)
        return name

    def _clone(self, template: str, name: str) -> None:
        statement = sql.SQL("create database {} template {} owner postgres")
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def start_postgres(data_dir: Path, version: PostgresVersion) -> PostgresWithTemplates:
    server = PostgresServer(data_dir, version=version)
    server.start()
    postgres = PostgresWithTemplates(server=server)
    postgres.add_template("bootstrapped", lambda server, dbname: server.bootstrap(dbname))
    # A template with the product's migrations is added here.
    return postgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresWithTemplates]:
    """A Postgres 18 of its own for tests of SQL."""
    running = start_postgres(tmp_path_factory.mktemp("postgres") / "18", 18)
    yield running
    running.server.stop()


@pytest.fixture(scope="session")
def postgres_16(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresWithTemplates]:
    """Hosted projects run Postgres 17, which the wheel does not have: what works on 16 and on 18 works there."""
    running = start_postgres(tmp_path_factory.mktemp("postgres") / "16", 16)
    yield running
    running.server.stop()


@pytest.fixture
def create_database(postgres: PostgresWithTemplates) -> Callable[[], str]:
    """A function that makes a bootstrapped database for this test and returns its DSN as role `postgres`."""
    return lambda: postgres.server.dsn("postgres", dbname=postgres.create_database())
