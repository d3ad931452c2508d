"""Private channels: what the policies on `realtime.messages` let somebody do there.

SELECT on a message of the topic means receive, INSERT means send, `extension` tells broadcast from presence. The
policies are asked with messages that are rolled back, as supabase/realtime does it (lib/realtime/tenants/
authorization.ex, read 2026-11-20).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psycopg

from embedded.database import Pool, acting_as
from embedded.identity import Claims

Extension = Literal["broadcast", "presence"]

_INSERT_PROBE = "insert into realtime.messages (topic, extension) values (%s, %s)"
_INSERT_PROBES = """
insert into realtime.messages (topic, extension) select %s, unnest(array['broadcast', 'presence']) returning id
"""
_SELECT_PROBES = "select extension from realtime.messages where id = any (%s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    broadcast: bool
    presence: bool


async def may_receive(pool: Pool, claims: Claims, topic: str) -> Permissions:
    """What the claims may hear on a private channel; nothing when a policy fails.

    Raises:
        psycopg.OperationalError: Postgres does not answer.
    """
    try:
        async with acting_as(pool, claims, settings={"realtime.topic": topic}, rollback=True) as connection:
            await connection.execute("select set_config('role', 'none', true)")  # insert past the policies
            probes = await (await connection.execute(_INSERT_PROBES, [topic])).fetchall()
            await connection.execute("select set_config('role', %s, true)", [claims.role])
            seen = await (await connection.execute(_SELECT_PROBES, [[probe for (probe,) in probes]])).fetchall()
    except (psycopg.errors.QueryCanceled, psycopg.ProgrammingError, psycopg.DataError, psycopg.InternalError):
        return Permissions(broadcast=False, presence=False)
    return Permissions(broadcast=("broadcast",) in seen, presence=("presence",) in seen)


async def may_send(pool: Pool, claims: Claims, topic: str, extension: Extension) -> bool:
    """Whether the claims may say something on a private channel; not when a policy fails.

    Raises:
        psycopg.OperationalError: Postgres does not answer.
    """
    try:
        async with acting_as(pool, claims, settings={"realtime.topic": topic}, rollback=True) as connection:
            await connection.execute(_INSERT_PROBE, [topic, extension])
    except (psycopg.errors.QueryCanceled, psycopg.ProgrammingError, psycopg.DataError, psycopg.InternalError):
        return False
    return True
