"""The bytes of objects: one immutable file per version, written once and removed when its row is gone.

A file appears under its version's name only when it is complete and synced, and a version's name is never used
twice. So whatever moment a crash chooses, a row points at exactly the bytes that were uploaded for it; the worst
that is left behind is a file that no row names.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from embedded.storage import errors

#: bytes gathered before a write is handed to a thread: large enough that the hand-over costs little
WRITE_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A version that is safely on disk."""

    version: str  #: uuid; names the file
    size: int  #: bytes
    etag: str  #: MD5 of the bytes, in double quotes


class FileStore:
    """Version files in `folder`. Names come from uuids alone, so no key or row can lead outside of it."""

    def __init__(self, folder: Path) -> None:
        self._objects = folder / "objects"
        self._incoming = folder / "incoming"

    def prepare(self) -> None:
        """Create the folders; what an earlier process had not finished writing is dropped."""
        self._objects.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir()

    async def write(self, chunks: AsyncIterable[bytes], *, max_size: int) -> StoredFile:
        """Store a new version from a stream, holding about `WRITE_CHUNK` of it in memory.

        Raises:
            StorageError: The stream is longer than `max_size` bytes; nothing of it is kept.
        """
        version = str(uuid.uuid4())
        incoming = self._incoming / version
        digest = hashlib.md5(usedforsecurity=False)
        size = 0
        try:
            with await asyncio.to_thread(incoming.open, "xb") as file:
                pending = bytearray()

                def write_pending() -> None:
                    file.write(pending)
                    digest.update(pending)
                    pending.clear()

                async for chunk in chunks:
                    size += len(chunk)
                    if size > max_size:
                        raise errors.entity_too_large()
                    pending += chunk
                    if len(pending) >= WRITE_CHUNK:
                        await asyncio.to_thread(write_pending)
                await asyncio.to_thread(write_pending)
                await asyncio.to_thread(_sync, file)
            await asyncio.to_thread(self._publish, version)
        finally:
            incoming.unlink(missing_ok=True)
        return StoredFile(version=version, size=size, etag=f'"{digest.hexdigest()}"')

    async def copy(self, version: str | None) -> str:
        """Store the bytes of `version` once more; returns the copy's version.

        Raises:
            FileNotFoundError: `version` has been replaced or removed.
        """
        copied_version = str(uuid.uuid4())
        await asyncio.to_thread(self._copy, version, copied_version)
        return copied_version

    async def open(self, version: str | None) -> BinaryIO:
        """The bytes of a version; they stay readable when the version is removed meanwhile.

        Raises:
            FileNotFoundError: There is no such version.
        """
        return await asyncio.to_thread(self._path(version).open, "rb")

    async def remove(self, versions: Iterable[str | None]) -> None:
        """Remove files whose rows are gone; those that do not exist are skipped."""
        await asyncio.to_thread(self._remove, list(versions))

    def _path(self, version: str | None) -> Path:
        try:
            name = str(uuid.UUID(version))
        except (TypeError, ValueError):
            raise FileNotFoundError(f"{version!r} is not a version of ours") from None
        return self._objects / name[:2] / name

    def _publish(self, version: str) -> None:
        path = self._path(version)
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir()
            _sync_folder(self._objects)
        (self._incoming / version).rename(path)
        _sync_folder(path.parent)

    def _remove(self, versions: Iterable[str | None]) -> None:
        for version in versions:
            with contextlib.suppress(FileNotFoundError):
                self._path(version).unlink()

    def _copy(self, version: str | None, copied_version: str) -> None:
        incoming = self._incoming / copied_version
        try:
            with self._path(version).open("rb") as source, incoming.open("xb") as target:
                shutil.copyfileobj(source, target, WRITE_CHUNK)
                _sync(target)
            self._publish(copied_version)
        finally:
            incoming.unlink(missing_ok=True)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, as `fsync` on a file does for its bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
