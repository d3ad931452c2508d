"""Rows of `storage.buckets` and `storage.objects`, and how Storage writes them as JSON."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    id: str
    name: str
    owner: uuid.UUID | None
    public: bool  #: readable by everybody without a token
    file_size_limit: int | None  #: bytes
    allowed_mime_types: list[str] | None
    type: str
    created_at: datetime
    updated_at: datetime

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "owner": str(self.owner or ""),  # never null: the Python client insists on a string
            "public": self.public,
            "file_size_limit": self.file_size_limit,
            "allowed_mime_types": self.allowed_mime_types,
            "type": self.type,
            "created_at": iso_time(self.created_at),
            "updated_at": iso_time(self.updated_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    id: uuid.UUID
    bucket_id: str
    name: str  #: the whole key, such as `folder/picture.png`
    owner: uuid.UUID | None
    owner_id: str | None
    version: str | None  #: names the file; null in rows that were made by plain SQL
    metadata: dict[str, Any] | None  #: eTag, size, mimetype, cacheControl, lastModified
    user_metadata: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    last_accessed_at: datetime

    @property
    def size(self) -> int:
        """Bytes."""
        return int((self.metadata or {}).get("size") or 0)

    def to_json(self) -> dict[str, Any]:
        return {
            "id": str(self.id),
            "bucket_id": self.bucket_id,
            "name": self.name,
            "owner": str(self.owner or ""),
            "owner_id": self.owner_id or "",
            "version": self.version or "",
            "metadata": self.metadata,
            "user_metadata": self.user_metadata,
            "created_at": iso_time(self.created_at),
            "updated_at": iso_time(self.updated_at),
            "last_accessed_at": iso_time(self.last_accessed_at),
        }


def iso_time(moment: datetime) -> str:
    """`2026-11-20T07:00:00.123Z`, the one form that all clients parse."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def uuid_or_none(text: str | None) -> uuid.UUID | None:
    """`owner` takes a user's id only when it is a uuid; `owner_id` takes any."""
    try:
        return uuid.UUID(text)
    except (TypeError, ValueError):
        return None
