"""The statements on `storage.objects`, one function each; lists are in `listing.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from embedded.storage import errors
from embedded.storage.rows import StoredObject, uuid_or_none
from embedded.storage.transactions import Connection

_COLUMNS = sql.SQL(
    "id, bucket_id, name, owner, owner_id, version, metadata, user_metadata, created_at, updated_at, last_accessed_at"
)
_INSERT = """
    insert into storage.objects (bucket_id, name, version, owner, owner_id, metadata, user_metadata)
    values (%(bucket_id)s, %(key)s, %(version)s, %(owner)s, %(owner_id)s, %(metadata)s, %(user_metadata)s)
"""
_REPLACE = """
    on conflict (bucket_id, name) do update
    set version = excluded.version, owner = excluded.owner, owner_id = excluded.owner_id,
        metadata = excluded.metadata, user_metadata = excluded.user_metadata
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObject:
    """What an upload or a copy is about to write, without its bytes."""

    bucket_id: str
    key: str
    owner_id: str | None
    metadata: Mapping[str, Any]
    user_metadata: Mapping[str, Any] | None

    def parameters(self, version: str) -> dict[str, Any]:
        return {
            "bucket_id": self.bucket_id,
            "key": self.key,
            "version": version,
            "owner": uuid_or_none(self.owner_id),
            "owner_id": self.owner_id,
            "metadata": Jsonb(self.metadata),
            "user_metadata": None if self.user_metadata is None else Jsonb(self.user_metadata),
        }


async def find_object(connection: Connection, bucket_id: str, key: str) -> StoredObject:
    """Raises NoSuchKey when it is not there, or not visible to the transaction's role."""
    cursor = connection.cursor(row_factory=class_row(StoredObject))
    query = sql.SQL("select {} from storage.objects where bucket_id = %s and name = %s").format(_COLUMNS)
    await cursor.execute(query, (bucket_id, key))
    stored = await cursor.fetchone()
    if stored is None:
        raise errors.no_such_key()
    return stored


async def find_keys(connection: Connection, bucket_id: str, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that exist and are visible to the transaction's role."""
    cursor = await connection.execute(
        "select name from storage.objects where bucket_id = %s and name = any(%s)", (bucket_id, list(keys))
    )
    return {name for (name,) in await cursor.fetchall()}


async def probe_insert(connection: Connection, new: NewObject, *, upsert: bool) -> None:
    """Insert a row to see what stands against it; the transaction must be rolled back afterwards.

    An upsert updates when the row exists, so it needs the rights to see and update it as well.
    """
    await connection.execute(_INSERT + (_REPLACE if upsert else ""), new.parameters("probe"))


async def save_object(
    connection: Connection, new: NewObject, version: str, *, upsert: bool
) -> tuple[StoredObject, str | None]:
    """Let the row point at `version`; returns it with the version that it pointed at before.

    Raises:
        StorageError: KeyAlreadyExists, when there is a row and `upsert` is false.
    """
    await _lock_key(connection, new.bucket_id, new.key)
    existing = await connection.execute(
        "select version from storage.objects where bucket_id = %s and name = %s for update",
        (new.bucket_id, new.key),
    )
    replaced = await existing.fetchone()
    if replaced is not None and not upsert:
        raise errors.already_exists("KeyAlreadyExists")
    cursor = connection.cursor(row_factory=class_row(StoredObject))
    query = sql.SQL(_INSERT + _REPLACE + "returning {}").format(_COLUMNS)
    await cursor.execute(query, new.parameters(version))
    stored = await cursor.fetchone()
    assert stored is not None
    return stored, None if replaced is None else replaced[0]


async def move_object(
    connection: Connection, stored: StoredObject, *, bucket_id: str, key: str, owner_id: str | None
) -> StoredObject:
    """Give the row another key, and the mover as its owner. Raises NoSuchKey when the role may not update it."""
    await _lock_key(connection, bucket_id, key)
    cursor = connection.cursor(row_factory=class_row(StoredObject))
    query = sql.SQL(
        """
        update storage.objects
        set bucket_id = %s, name = %s, owner = coalesce(%s, owner), owner_id = coalesce(%s, owner_id)
        where id = %s returning {}
        """
    ).format(_COLUMNS)
    await cursor.execute(query, (bucket_id, key, uuid_or_none(owner_id), owner_id, stored.id))
    moved = await cursor.fetchone()
    if moved is None:
        raise errors.no_such_key()
    return moved


async def delete_objects(connection: Connection, bucket_id: str, keys: Sequence[str]) -> list[StoredObject]:
    """Delete what exists of `keys` and the role may delete; returns those rows."""
    cursor = connection.cursor(row_factory=class_row(StoredObject))
    query = sql.SQL("delete from storage.objects where bucket_id = %s and name = any(%s) returning {}")
    await cursor.execute(query.format(_COLUMNS), (bucket_id, list(keys)))
    return await cursor.fetchall()


async def delete_some_objects(connection: Connection, bucket_id: str, limit: int) -> list[StoredObject]:
    """Delete up to `limit` objects of a bucket that the role may delete; returns those rows."""
    cursor = connection.cursor(row_factory=class_row(StoredObject))
    query = sql.SQL(
        """
        delete from storage.objects
        where id in (select id from storage.objects where bucket_id = %s limit %s) returning {}
        """
    )
    await cursor.execute(query.format(_COLUMNS), (bucket_id, limit))
    return await cursor.fetchall()


async def _lock_key(connection: Connection, bucket_id: str, key: str) -> None:
    """Let the writers of one key pass one at a time, until the transaction ends.

    A row lock cannot do that while there is no row, and the loser of that race would leave its bytes behind.
    """
    await connection.execute(
        "select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"storage.objects {bucket_id}/{key}",)
    )
