"""Pages of objects: by offset inside one folder (v1), and by cursor under any prefix (v2).

Source: github.com/supabase/storage, src/storage/object.ts (`searchObjects`, `listObjectsV2`), 2026-11-20.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql
from psycopg.rows import dict_row

from embedded.storage import errors
from embedded.storage.rows import iso_time
from embedded.storage.transactions import Connection

SortColumn = Literal["name", "updated_at", "created_at"]

#: Files under the prefix, and in their place the folders they lie in when `with_delimiter` is set. A folder's time
#: is its newest file's.
_ENTRIES = """
with matching as (
  select objects.*, strpos(substr(name, length(%(prefix)s) + 1), '/') as delimiter_at
  from storage.objects
  where bucket_id = %(bucket_id)s and name collate "C" ^@ %(prefix)s
), entries as (
  select name collate "C" as name, id, updated_at, created_at, last_accessed_at, metadata
  from matching
  where not %(with_delimiter)s or delimiter_at = 0
  union all
  select left(name, length(%(prefix)s) + delimiter_at) collate "C", null,
         max(updated_at), max(created_at), max(last_accessed_at), null
  from matching
  where %(with_delimiter)s and delimiter_at > 0
  group by 1
)
select * from entries where {after} order by {order} limit %(limit)s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a page ended: the next one begins behind this entry, in the same order."""

    sort_column: SortColumn
    descending: bool
    name: str | None = None  #: None: begin at the first entry
    time: str | None = None  #: the entry's value of a time column

    def encode(self) -> str:
        parts = [self.sort_column, self.descending, self.name, self.time]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Cursor:
        try:
            sort_column, descending, name, time = json.loads(base64.urlsafe_b64decode(text))
        except (ValueError, TypeError) as error:
            raise errors.invalid_request("Invalid Parameter continuation token") from error
        if sort_column not in ("name", "updated_at", "created_at"):
            raise errors.invalid_request("Invalid Parameter continuation token")
        return cls(sort_column=sort_column, descending=bool(descending), name=name, time=time)


async def list_folder(
    connection: Connection,
    bucket_id: str,
    *,
    prefix: str,
    search: str,
    sort_column: str,
    sort_order: str,
    limit: int,
    offset: int,
) -> list[dict[str, Any]]:
    """One page of v1: names relative to the folder `prefix`; sub-folders are entries whose other fields are null."""
    folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        """
        select name, id, updated_at, created_at, last_accessed_at, metadata
        from storage.search(%s, %s, %s, %s, %s, %s, %s)
        """,
        (folder, bucket_id, limit, offset, search, sort_column, sort_order),
    )
    return [_to_json(row) for row in await cursor.fetchall()]


async def list_under_prefix(
    connection: Connection, bucket_id: str, *, prefix: str, with_delimiter: bool, limit: int, begin: Cursor
) -> dict[str, Any]:
    """One page of v2, `{hasNext, folders, objects, nextCursor?}`, with whole names."""
    direction = sql.SQL("desc" if begin.descending else "asc")
    keys: list[sql.Composable] = [sql.SQL("name")]
    last_seen: list[sql.Composable] = [sql.Placeholder("after_name")]
    if begin.sort_column != "name":
        keys.insert(0, sql.Identifier(begin.sort_column))
        last_seen.insert(0, sql.Placeholder("after_time"))
    after: sql.Composable = sql.SQL("true")
    if begin.name is not None:
        after = sql.SQL("({}) {} ({})").format(
            sql.SQL(", ").join(keys), sql.SQL("<" if begin.descending else ">"), sql.SQL(", ").join(last_seen)
        )
    order = sql.SQL(", ").join(sql.SQL("{} {}").format(key, direction) for key in keys)
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(
        sql.SQL(_ENTRIES).format(after=after, order=order),
        {
            "bucket_id": bucket_id,
            "prefix": prefix,
            "with_delimiter": with_delimiter,
            "limit": limit + 1,  # one more than asked, to know whether there is a next page
            "after_name": begin.name,
            "after_time": begin.time,
        },
    )
    rows = await cursor.fetchall()
    page, has_next = rows[:limit], len(rows) > limit
    result: dict[str, Any] = {
        "hasNext": has_next,
        "folders": [{"name": row["name"], "key": row["name"].removesuffix("/")} for row in page if row["id"] is None],
        "objects": [{**_to_json(row), "key": row["name"]} for row in page if row["id"] is not None],
    }
    if has_next:
        last = page[-1]
        result["nextCursor"] = Cursor(
            sort_column=begin.sort_column,
            descending=begin.descending,
            name=last["name"],
            time=None if begin.sort_column == "name" else last[begin.sort_column].isoformat(),
        ).encode()
    return result


def _to_json(row: dict[str, Any]) -> dict[str, Any]:
    times = {
        column: None if row[column] is None else iso_time(row[column])
        for column in ("updated_at", "created_at", "last_accessed_at")
    }
    return {**row, **times, "id": None if row["id"] is None else str(row["id"])}
