"""The ledger that the database keeps of itself: triggers that write down every change, and the lease that it showed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

_SQL = Path(__file__).with_name("history.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One write to a row of `table_name`."""

    table_name: str
    product_id: str
    showed_lease: bool  #: it came through a door and named a lease
    is_zombie: bool  #: and the run no longer had that lease
    old_status: str | None
    new_status: str | None


def keep_history(superuser_url: str) -> None:
    """Install the triggers in a stack that is there for nothing but this."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(_SQL.read_bytes())


async def read_history(connection: psycopg.AsyncConnection[dict[str, Any]]) -> list[Change]:
    """All changes, oldest first."""
    cursor = await connection.execute(
        "select table_name, product_id::text, showed_lease, is_zombie, old_status, new_status "
        "from chaos.history order by id"
    )
    return [Change(**row) for row in await cursor.fetchall()]
