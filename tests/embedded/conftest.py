"""Clients of the embedded stack, as programs make them."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from rest_support import LIBRARY, create

from supabase import AsyncClient, AsyncClientOptions, acreate_client
from tests.stack import RunningStack

ROOT = Path(__file__).parent.parent.parent
NODE = ROOT / ".venv" / "bin" / "node"

#: Makes a client for an API key; the second argument, a user's access token, replaces it in `Authorization`.
ClientFactory = Callable[..., Awaitable[AsyncClient]]


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


@pytest.fixture
def make_client(stack: RunningStack, http: httpx.AsyncClient) -> ClientFactory:
    async def make(key: str, access_token: str | None = None) -> AsyncClient:
        headers = {"Authorization": f"Bearer {access_token}"} if access_token else {}
        options = AsyncClientOptions(
            httpx_client=http, auto_refresh_token=False, persist_session=False, headers=headers
        )
        return await acreate_client(stack.url, key, options=options)

    return make


@pytest.fixture
async def service(make_client: ClientFactory, stack: RunningStack) -> AsyncClient:
    """A client with the secret key."""
    return await make_client(stack.secret_key)


@pytest.fixture
async def anonymous(make_client: ClientFactory, stack: RunningStack) -> AsyncClient:
    """A client with the publishable key and no user."""
    return await make_client(stack.publishable_key)


@pytest.fixture
def database(stack: RunningStack) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The stack's database as role `postgres`, as migrations see it."""
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def library(stack: RunningStack) -> RunningStack:
    """The stack with the tables of `rest_support.LIBRARY`, which tests read and never change."""
    create(stack, LIBRARY)
    return stack


@pytest.fixture
def run_js(stack: RunningStack) -> Callable[[str], None]:
    """Runs a program of `tests/js` with supabase-js; it fails by throwing."""

    def run(program: str) -> None:
        done = subprocess.run(
            [NODE, ROOT / "tests" / "js" / program],
            env=stack.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run
