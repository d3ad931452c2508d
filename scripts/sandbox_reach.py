"""Whether the sandbox can stand in for NanoBanana, which fetches its inputs by link."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

from scripts.environment import Given, OperatorError


async def check_sandbox_may_fetch(given: Given) -> None:
    """The sandbox fetches inputs from this machine and its private network only (`sandbox/loopback.py`).

    Raises:
        OperatorError: It stands in for NanoBanana, and the operator's Supabase lies elsewhere.
    """
    host = urlsplit(str(given.supabase_public_url or given.supabase_url)).hostname or ""
    if given.nanobanana_api_key is None and not await _is_near(host):
        raise OperatorError(
            f"NANOBANANA_API_KEY is not set. The sandbox that would stand in for NanoBanana fetches pictures from this "
            f"machine only, and your Supabase is at {host}. Set the key, or leave SUPABASE_URL and "
            f"SUPABASE_SERVICE_ROLE_KEY out to run everything here."
        )


async def _is_near(host: str) -> bool:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    return all(address.is_loopback or (address.is_private and not address.is_link_local) for address in addresses)
