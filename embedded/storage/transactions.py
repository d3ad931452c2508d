"""The transactions that Storage's statements run in: with whose rights, and what their errors mean to clients.

The caller's role decides what a statement may see and do. `SERVICE` stands in only for what Storage itself must
know (does the bucket exist, is it public) and to finish an upload whose right was already proved.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from embedded.database import Pool, acting_as
from embedded.identity import Claims
from embedded.storage import errors

Connection = AsyncConnection[tuple[Any, ...]]

#: Sees past the policies.
SERVICE = Claims(role="service_role", sub=None, raw={"role": "service_role"})


@asynccontextmanager
async def transaction(
    pool: Pool, claims: Claims, operation: str, *, rollback: bool = False
) -> AsyncIterator[Connection]:
    """One transaction with the rights of `claims`; policies read `operation` by `storage.operation()`.

    Raises:
        StorageError: In place of every database error.
    """
    settings = {"storage.operation": operation, "storage.allow_delete_query": "true"}
    try:
        async with acting_as(pool, claims, settings=settings, rollback=rollback) as connection:
            yield connection
    except (psycopg.Error, PoolTimeout) as error:
        raise _translate(error) from error


def _translate(error: psycopg.Error | PoolTimeout) -> errors.StorageError:
    """Source: github.com/supabase/storage, src/storage/database/knex.ts (`DBError.fromDBError`), 2026-11-20."""
    match error:
        case psycopg.errors.InsufficientPrivilege():
            return errors.access_denied("new row violates row-level security policy")
        case psycopg.errors.UniqueViolation():
            return errors.already_exists("ResourceAlreadyExists")
        case psycopg.errors.ForeignKeyViolation():
            return errors.related_resource_not_found()
        case psycopg.errors.LockNotAvailable() | psycopg.errors.DeadlockDetected():
            return errors.resource_locked()
        case psycopg.errors.QueryCanceled() | PoolTimeout():
            return errors.database_timeout()
        case psycopg.DataError():  # a value that Postgres cannot hold, such as a NUL character
            return errors.invalid_request(str(error).partition("\n")[0])
        case _:
            return errors.database_error(str(error).partition("\n")[0])
