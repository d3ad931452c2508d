"""What is paid for never travels on a connection that the provider may be about to close."""

from __future__ import annotations

import asyncio

from pydantic import SecretStr

from providers._http import ProviderApi
from tests.providers.fakes import KEY
from tests.providers.raw_server import always, http_answer, raw_server
from transport import build_http_client

BODY = b"{}"


def soon() -> float:
    return asyncio.get_running_loop().time() + 5


async def test_each_purchase_gets_a_connection_of_its_own() -> None:
    """A kept connection can be closed just as it is used: a purchase lost that way would have to count as paid."""
    async with raw_server(always(http_answer(body=BODY))) as server, build_http_client() as http:
        api = ProviderApi(http, provider="reve", base_url=f"http://127.0.0.1:{server.port}", api_key=SecretStr(KEY))
        for _ in range(3):
            reply = await api.buy("/edit", content=BODY, length=len(BODY), ends_at=soon(), max_bytes=100)
            assert reply.status == 200
        assert server.connections == 3
        assert [request.headers["connection"] for request in server.requests] == ["close"] * 3


async def test_questions_that_cost_nothing_share_a_connection() -> None:
    async with raw_server(always(http_answer(body=BODY))) as server, build_http_client() as http:
        api = ProviderApi(http, provider="reve", base_url=f"http://127.0.0.1:{server.port}", api_key=SecretStr(KEY))
        for _ in range(3):
            await api.ask("/balance", params={}, ends_at=soon())
        assert server.connections == 1
