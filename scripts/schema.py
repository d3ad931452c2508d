"""Brings the tables and functions of a Supabase up to date at a start, or says who has to."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE

import psycopg

from scripts.environment import Given, OperatorError, services_environment
from scripts.migrate import migrate


async def apply_migrations(database_url: str) -> str:
    """What to say about it.

    Raises:
        OperatorError: They could not be applied.
    """
    try:
        applied = await asyncio.to_thread(migrate, database_url)
    except psycopg.Error as error:
        first_line = str(error).partition("\n")[0]
        raise OperatorError(f"The migrations could not be applied: {first_line}") from None
    return f"{len(applied)} applied"


async def bring_up_to_date(given: Given) -> str:
    """Apply the migrations to the operator's Supabase where DATABASE_URL allows it, else check that somebody did.

    Raises:
        OperatorError: They are not applied; the message says how to do it.
    """
    if given.database_url is not None:
        return await apply_migrations(given.database_url.get_secret_value())
    # In a process of its own, because Supabase's client takes a second to load.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.check_schema", stdin=DEVNULL, stderr=PIPE, env=services_environment()
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        raise OperatorError(said.decode(errors="replace").strip())
    return "applied already"
