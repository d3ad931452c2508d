"""Clients of the embedded stack, as programs make them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from tests.embedded.rest_support import LIBRARY, create
from tests.stack import RunningStack

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


@pytest.fixture(scope="session")
def library(stack: RunningStack) -> RunningStack:
    """The stack with the tables of `rest_support.LIBRARY`, which tests read and never change."""
    create(stack, LIBRARY)
    return stack
