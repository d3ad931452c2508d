"""What `make up` does before it starts against the operator's own Supabase."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from asyncio.subprocess import DEVNULL, PIPE
from urllib.parse import urlsplit

import psycopg

from scripts.data_folder import ROOT
from scripts.environment import Given, OperatorError, services_environment
from scripts.migrate import migrate


async def bring_schema_up_to_date(given: Given) -> str:
    """Apply the migrations where DATABASE_URL allows it, else check that somebody did; what to say about it.

    Raises:
        OperatorError: They are not applied, and how to do it.
    """
    if given.database_url is None:
        await _check_schema()
        return "applied already"
    try:
        applied = await asyncio.to_thread(migrate, given.database_url.get_secret_value())
    except psycopg.Error as error:
        first_line = str(error).partition("\n")[0]
        raise OperatorError(f"The migrations could not be applied through DATABASE_URL: {first_line}") from None
    return f"{len(applied)} applied"


async def _check_schema() -> None:
    """In a process of its own, because Supabase's client takes a second to load."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.check_schema",
        stdin=DEVNULL, stderr=PIPE, cwd=ROOT, env=services_environment(),
    )  # fmt: skip
    _, said = await process.communicate()
    if process.returncode != 0:
        raise OperatorError(said.decode(errors="replace").strip())


async def check_sandbox_may_fetch(given: Given) -> None:
    """The sandbox fetches inputs from this machine and its private network only (`sandbox/loopback.py`).

    Raises:
        OperatorError: It stands in for NanoBanana, which gets links, and Supabase lies elsewhere.
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
