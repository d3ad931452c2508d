"""The one Supabase client of a process, and how long to wait for a Supabase that does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import aiohttp
import httpx
from supabase import AsyncClient, AsyncClientOptions, acreate_client
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from config import Settings
from errors import StoreUnavailableError

T = TypeVar("T")

#: What the transport raises when no answer came. With an injected transport a few of aiohttp's own errors pass through.
NO_ANSWER = (httpx.HTTPError, aiohttp.ClientError, TimeoutError, OSError)

LONGEST_PAUSE_S = 5.0  # between two attempts: a Supabase that is back is noticed soon


async def connect_supabase(settings: Settings, http: httpx.AsyncClient) -> AsyncClient:
    """A client with the service key on the shared transport, which the caller closes. It signs nobody in."""
    return await acreate_client(
        settings.base_url,
        settings.supabase_service_role_key.get_secret_value(),
        options=AsyncClientOptions(
            httpx_client=http,
            auto_refresh_token=False,
            persist_session=False,
            postgrest_client_retry=False,  # `patiently` does it, for writes too, since all of ours can be repeated
        ),
    )


async def patiently(call: Callable[[], Awaitable[T]], *, patience_s: float) -> T:
    """The result of a repeatable call, tried again for `patience_s` seconds while it raises StoreUnavailableError."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(StoreUnavailableError),
        stop=stop_after_delay(patience_s),
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_S),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            return await call()
    raise AssertionError("the last attempt returns or raises")
