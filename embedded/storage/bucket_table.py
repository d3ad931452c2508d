"""The statements on `storage.buckets`, one function each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from embedded.storage import errors
from embedded.storage.rows import Bucket, uuid_or_none
from embedded.storage.transactions import Connection

_COLUMNS = sql.SQL("id, name, owner, public, file_size_limit, allowed_mime_types, type, created_at, updated_at")


async def insert_bucket(
    connection: Connection,
    *,
    bucket_id: str,
    name: str,
    owner_id: str | None,
    public: bool,
    file_size_limit: int | None,
    allowed_mime_types: list[str] | None,
) -> None:
    try:
        await connection.execute(
            """
            insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types)
            values (%s, %s, %s, %s, %s, %s, %s)
            """,
            (bucket_id, name, uuid_or_none(owner_id), owner_id, public, file_size_limit, allowed_mime_types),
        )
    except psycopg.errors.UniqueViolation as error:
        raise errors.already_exists("BucketAlreadyExists") from error


async def find_bucket(connection: Connection, bucket_id: str) -> Bucket:
    """Raises NoSuchBucket when it is not there, or not visible to the transaction's role."""
    cursor = connection.cursor(row_factory=class_row(Bucket))
    await cursor.execute(sql.SQL("select {} from storage.buckets where id = %s").format(_COLUMNS), (bucket_id,))
    bucket = await cursor.fetchone()
    if bucket is None:
        raise errors.no_such_bucket()
    return bucket


async def list_buckets(
    connection: Connection, *, search: str, sort_column: str, descending: bool, limit: int | None, offset: int
) -> list[Bucket]:
    """`sort_column` is one of the table's columns; `search` is found anywhere in the name, whatever its case."""
    cursor = connection.cursor(row_factory=class_row(Bucket))
    query = sql.SQL(
        """
        select {columns} from storage.buckets
        where strpos(lower(name), lower(%s)) > 0
        order by {sort_column} {direction} limit %s offset %s
        """
    ).format(
        columns=_COLUMNS,
        sort_column=sql.Identifier(sort_column),
        direction=sql.SQL("desc" if descending else "asc"),
    )
    await cursor.execute(query, (search, limit, offset))
    return await cursor.fetchall()


async def update_bucket(connection: Connection, bucket_id: str, changes: Mapping[str, Any]) -> None:
    """Set the columns in `changes`. Raises NoSuchBucket when the role may not update such a bucket."""
    assignments: list[sql.Composable] = [sql.SQL("updated_at = now()")]
    assignments += [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in changes]
    query = sql.SQL("update storage.buckets set {} where id = {}").format(
        sql.SQL(", ").join(assignments), sql.Placeholder("bucket_id")
    )
    cursor = await connection.execute(query, {**changes, "bucket_id": bucket_id})
    if cursor.rowcount == 0:
        raise errors.no_such_bucket()


async def delete_bucket(connection: Connection, bucket_id: str) -> None:
    """Raises ResourceNotEmpty while it has objects, NoSuchBucket when the role may not delete such a bucket."""
    try:
        cursor = await connection.execute("delete from storage.buckets where id = %s", (bucket_id,))
    except psycopg.errors.ForeignKeyViolation as error:
        raise errors.bucket_not_empty() from error
    if cursor.rowcount == 0:
        raise errors.no_such_bucket()
