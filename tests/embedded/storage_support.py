"""What the tests of Storage share: the official client for any role, and buckets that no other test touches."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import jwt
import psycopg
from storage3 import AsyncStorageClient

from tests.stack import RunningStack


def new_bucket_name() -> str:
    return f"bucket-{uuid.uuid4().hex[:12]}"


def user_token(stack: RunningStack, user_id: str, *, lifetime_s: int = 600) -> str:
    """An access token as Auth would sign it with the project's secret."""
    claims = {"role": "authenticated", "sub": user_id, "aud": "authenticated", "exp": int(time.time()) + lifetime_s}
    return jwt.encode(claims, stack.jwt_secret, algorithm="HS256")


@asynccontextmanager
async def storage_client(stack: RunningStack, token: str | None = None) -> AsyncIterator[AsyncStorageClient]:
    """The official client; `token` is an API key or a user's token, by default the secret key."""
    token = stack.secret_key if token is None else token
    headers = {"apikey": stack.publishable_key, "Authorization": f"Bearer {token}"}
    if token.startswith("sb_"):
        headers = {"apikey": token, "Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(timeout=30) as http:
        yield AsyncStorageClient(f"{stack.url}/storage/v1/", headers, http_client=http)


@asynccontextmanager
async def http_client(stack: RunningStack, *, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Bare HTTP below `/storage/v1`, for what the official clients cannot send; without a token by default."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=f"{stack.url}/storage/v1", timeout=30, headers=headers) as http:
        yield http


@asynccontextmanager
async def a_bucket(
    stack: RunningStack,
    *,
    public: bool = False,
    file_size_limit: int | None = None,
    allowed_mime_types: list[str] | None = None,
) -> AsyncIterator[str]:
    """A bucket's name; it is emptied and deleted afterwards."""
    name = new_bucket_name()
    options = {"public": public, "file_size_limit": file_size_limit, "allowed_mime_types": allowed_mime_types}
    async with storage_client(stack) as storage:
        await storage.create_bucket(name, options=options)  # type: ignore[arg-type]  # None is allowed on the wire
        yield name
        await storage.empty_bucket(name)
        await storage.delete_bucket(name)


async def run_sql(stack: RunningStack, statement: str) -> list[tuple[object, ...]]:
    """As role `postgres`, the one that migrations run as."""
    async with await psycopg.AsyncConnection.connect(stack.database_url, autocommit=True) as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []
