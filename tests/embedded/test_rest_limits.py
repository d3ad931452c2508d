"""The limits of a hosted project: time-outs by role, the pool, and a schema cache that is told of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from embedded.identity import Identity
from embedded.keys import StackKeys, create_keys
from embedded.rest.service import POOL_SIZE, RestService
from tests.conftest import PostgresWithTemplates
from tests.embedded.rest_support import create, new_name, rest, user_token
from tests.stack import RunningStack

SLEEP = "create function {name}(seconds float) returns void language sql as 'select pg_sleep(seconds)'"
SETTINGS = """
create function {name}() returns json language sql stable as $$ select json_build_object(
  'statement', current_setting('statement_timeout'), 'lock', current_setting('lock_timeout')) $$
"""


def test_each_role_has_its_own_statement_timeout(stack: RunningStack) -> None:
    name = new_name("settings")
    create(stack, SETTINGS.format(name=name))
    answers = []
    for client in (rest(stack, key=stack.publishable_key), rest(stack, user_token(stack, "u")), rest(stack)):
        with client:
            answers.append(client.post(f"/rpc/{name}").json())
    assert answers == [
        {"statement": "3s", "lock": "8s"},
        {"statement": "8s", "lock": "8s"},
        {"statement": "8s", "lock": "8s"},
    ]


def test_a_statement_that_takes_too_long_is_cut(stack: RunningStack) -> None:
    name = new_name("sleep")
    create(stack, SLEEP.format(name=name))
    with rest(stack, key=stack.publishable_key) as client:
        answer = client.post(f"/rpc/{name}", json={"seconds": 60})
    assert (answer.status_code, answer.json()["code"]) == (500, "57014")
    assert answer.json()["message"] == "canceling statement due to statement timeout"


def test_a_tables_change_is_known_soon_after(stack: RunningStack) -> None:
    """`create` waits until the cache has been read again, which a NOTIFY after DDL asks for."""
    table = new_name("changing")
    create(stack, f"create table {table} (id int); grant all on {table} to service_role")
    with rest(stack) as client:
        assert client.post(f"/{table}", json={"label": "x"}).json()["code"] == "PGRST204"
        create(stack, f"alter table {table} add column label text")
        assert client.post(f"/{table}", json={"label": "x"}).status_code == 201
        create(stack, f"drop table {table}")
        assert client.get(f"/{table}").json()["code"] == "PGRST205"


@pytest.fixture
async def impatient(postgres: PostgresWithTemplates) -> AsyncIterator[tuple[httpx.AsyncClient, StackKeys]]:
    """A REST service of its own, which waits only a moment for a place in its pool."""
    keys = create_keys()
    database = postgres.create_database()
    service = RestService(
        postgres.server.dsn(dbname=database), Identity(keys, "http://localhost/auth/v1"), pool_wait_s=0.2
    )
    with postgres.connect(database) as connection:
        connection.execute(SLEEP.format(name="sleep").encode())
    await service.start()
    headers = {"apikey": keys.secret_key}
    transport = httpx.ASGITransport(Starlette(routes=service.routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://rest", headers=headers) as client:
        yield client, keys
    await service.stop()


async def test_an_exhausted_pool_is_a_gateway_timeout(
    impatient: tuple[httpx.AsyncClient, StackKeys],
) -> None:
    client, _ = impatient
    busy = [asyncio.create_task(client.post("/rpc/sleep", json={"seconds": 1.5})) for _ in range(POOL_SIZE)]
    await asyncio.sleep(0.3)
    refused = await client.post("/rpc/sleep", json={"seconds": 0})
    done = await asyncio.gather(*busy)
    after = await client.post("/rpc/sleep", json={"seconds": 0})
    assert (refused.status_code, refused.json()["code"]) == (504, "PGRST003")
    assert refused.json()["message"] == "Timed out acquiring connection from connection pool."
    assert [answer.status_code for answer in done] == [204] * POOL_SIZE
    assert after.status_code == 204
