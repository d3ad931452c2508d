"""Connections to Postgres, and transactions that act for somebody: the way every service meets policies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from embedded.identity import Claims

Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]

POOL_WAIT_S = 10.0  # PostgREST's db-pool-acquisition-timeout

#: The role's own timeouts, which Postgres applies only at login: `set role` does not. Claims are visible in the
#: old style as well (`request.jwt.claim.sub`), because functions of older projects read it.
_BEGIN_ACTING = """
select set_config(split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1), true)
from pg_catalog.pg_db_role_setting, unnest(setconfig) as setting
where setrole = (select oid from pg_catalog.pg_roles where rolname = %(role)s) and setdatabase = 0
union all
select set_config(name, value, true)
from unnest(%(names)s::text[], %(values)s::text[]) with ordinality as settings (name, value, position)
"""


def dsn_as(dsn: str, user: str) -> str:
    """The same database, logged in as another role (all login roles share one password)."""
    return make_conninfo(dsn, user=user)


def open_pool(dsn: str, *, max_size: int, min_size: int = 1, wait_s: float = POOL_WAIT_S) -> Pool:
    """A pool of autocommit connections, still closed: `await pool.open()` and `await pool.close()` are the owner's.

    Asking for a connection raises `psycopg_pool.PoolTimeout` after `wait_s` seconds.
    """
    return AsyncConnectionPool(
        dsn, min_size=min_size, max_size=max_size, timeout=wait_s, open=False, kwargs={"autocommit": True}
    )


@asynccontextmanager
async def acting_as(
    pool: Pool,
    claims: Claims,
    *,
    settings: Mapping[str, str] | None = None,
    read_only: bool = False,
    rollback: bool = False,
) -> AsyncIterator[AsyncConnection[tuple[Any, ...]]]:
    """One transaction as `claims.role`, with the claims where `auth.uid()` and policies look for them.

    `settings` are further settings that last as long as the transaction, such as `storage.operation`. With
    `rollback` nothing is kept. Errors of a deferred constraint come when the block is left.
    """
    configured = {
        "request.jwt.claims": json.dumps(dict(claims.raw)),
        "request.jwt.claim.sub": claims.sub or "",
        "request.jwt.claim.role": claims.role,
        "request.jwt.claim.email": str(claims.raw.get("email") or ""),
        **(settings or {}),
        **({"transaction_read_only": "on"} if read_only else {}),
        "role": claims.role,  # last: from here on its rights hold
    }
    async with pool.connection() as connection, connection.transaction(force_rollback=rollback):
        await connection.execute(
            _BEGIN_ACTING,
            {"role": claims.role, "names": list(configured), "values": list(configured.values())},
        )
        yield connection
