"""Whether the sandbox can stand in for NanoBanana, which fetches its inputs by link."""

from __future__ import annotations

from urllib.parse import urlsplit

from sandbox.loopback import is_near
from scripts.environment import Given, OperatorError


async def check_sandbox_may_fetch(given: Given) -> None:
    """The sandbox fetches inputs from this machine and its private network only (`sandbox/loopback.py`).

    Raises:
        OperatorError: It stands in for NanoBanana, and the operator's Supabase lies elsewhere.
    """
    url = str(given.supabase_public_url or given.supabase_url)
    if given.nanobanana_api_key is None and not await is_near(url):
        raise OperatorError(
            f"NANOBANANA_API_KEY is not set. The sandbox that would stand in for NanoBanana fetches pictures from this "
            f"machine only, and your Supabase is at {urlsplit(url).hostname}. Set the key, or leave SUPABASE_URL and "
            f"SUPABASE_SERVICE_ROLE_KEY out to run everything here."
        )
