"""Real neighbours for every test: an embedded Supabase, and a Postgres with a database per test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from embedded.postgres import PostgresServer, PostgresVersion
from scripts.migrate import migrate
from tests.sandbox.running import SandboxClient, SandboxProcess
from tests.shop import TABLES, Shop, open_shop
from tests.stack import RunningStack, start_stack


def pytest_configure(config: pytest.Config) -> None:
    """A folder of this session's own: pytest's shared one is closed to other accounts whenever root starts a session,
    and a Postgres that root starts runs under another account."""
    if config.option.basetemp is None:
        config.option.basetemp = tempfile.mkdtemp(prefix="vitrine-tests-")
        config.add_cleanup(lambda: shutil.rmtree(config.option.basetemp, ignore_errors=True))


@pytest.fixture(scope="session")
def servers_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for servers."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def stack(servers_dir: Path) -> Iterator[RunningStack]:
    """One embedded Supabase for the whole session. Tests name their tables and users so that none meets another."""
    running = start_stack(servers_dir / "stack")
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

    def connect(self, database: str, user: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """A connection whose statements commit at once."""
        return psycopg.connect(self.server.dsn(user, dbname=database), autocommit=True)

    def _clone(self, template: str, name: str) -> None:
        statement = sql.SQL("create database {} template {} owner postgres")
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))


def start_postgres(data_dir: Path, version: PostgresVersion) -> PostgresWithTemplates:
    server = PostgresServer(data_dir, version=version)
    server.start()
    server.bootstrap()
    postgres = PostgresWithTemplates(server=server)
    postgres.add_template("bootstrapped", lambda server, dbname: server.bootstrap(dbname))
    # A template with the product's migrations is added here.
    return postgres


@pytest.fixture(scope="session")
def postgres(servers_dir: Path) -> Iterator[PostgresWithTemplates]:
    """A Postgres 18 of its own for tests of SQL."""
    running = start_postgres(servers_dir / "18", 18)
    yield running
    running.server.stop()


@pytest.fixture(scope="session")
def postgres_16(servers_dir: Path) -> Iterator[PostgresWithTemplates]:
    """Hosted projects run Postgres 17, which the wheel does not have: what works on 16 and on 18 works there."""
    running = start_postgres(servers_dir / "16", 16)
    yield running
    running.server.stop()


@pytest.fixture
def create_database(postgres: PostgresWithTemplates) -> Callable[[], str]:
    """A function that makes a bootstrapped database for this test and returns its DSN as role `postgres`."""
    return lambda: postgres.server.dsn("postgres", dbname=postgres.create_database())


@pytest.fixture(scope="session")
def migrated_stack(stack: RunningStack) -> RunningStack:
    """The session's stack with the product's tables."""
    migrate(stack.database_url)
    return stack


@pytest.fixture(scope="session")
def shop_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxClient]:
    running = SandboxProcess(tmp_path_factory.mktemp("shop-sandbox"), "--ready-made")
    with SandboxClient(running.url) as client:
        yield client
    running.stop()


@pytest.fixture
async def shop(migrated_stack: RunningStack, shop_sandbox: SandboxClient) -> AsyncIterator[Shop]:
    """The product with empty tables, a sandbox without faults and ready-made pictures."""
    with psycopg.connect(migrated_stack.superuser_url, autocommit=True) as connection:
        connection.execute(f"truncate {TABLES} cascade")
    shop_sandbox.reset()
    async with open_shop(migrated_stack, shop_sandbox) as opened:
        yield opened
