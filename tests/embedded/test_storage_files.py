"""The files behind the rows: complete or absent, immutable, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from embedded.storage.errors import StorageError
from embedded.storage.files import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    store = FileStore(tmp_path)
    store.prepare()
    return store


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def test_a_stream_becomes_one_file_with_its_size_and_md5(store: FileStore, tmp_path: Path) -> None:
    stored = await store.write(stream(b"ring", b"", b" of gold"), max_size=100)
    assert (stored.size, stored.etag) == (12, f'"{hashlib.md5(b"ring of gold").hexdigest()}"')
    assert [path.read_bytes() for path in files_below(tmp_path)] == [b"ring of gold"]


async def test_two_versions_of_the_same_bytes_are_two_files(store: FileStore, tmp_path: Path) -> None:
    versions = {(await store.write(stream(b"same"), max_size=4)).version for _ in range(2)}
    assert len(versions) == len(files_below(tmp_path)) == 2


async def test_a_stream_that_is_too_long_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        await store.write(stream(b"12345", b"6"), max_size=5)
    assert caught.value.code == "EntityTooLarge"
    assert files_below(tmp_path) == []


async def test_a_stream_that_breaks_leaves_nothing(store: FileStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.write(broken(), max_size=10_000_000)
    assert files_below(tmp_path) == []


async def test_the_unfinished_files_of_a_killed_process_are_removed_at_start(tmp_path: Path) -> None:
    first = FileStore(tmp_path)
    first.prepare()
    kept = await first.write(stream(b"finished"), max_size=100)
    (tmp_path / "incoming" / "half").write_bytes(b"unfinished")

    second = FileStore(tmp_path)
    second.prepare()
    assert [path.read_bytes() for path in files_below(tmp_path)] == [b"finished"]
    with await second.open(kept.version) as file:
        assert file.read() == b"finished"


@pytest.mark.parametrize("version", [None, "", "..", "../../secret", "/etc/passwd", "probe"])
async def test_a_version_that_is_no_uuid_leads_nowhere(store: FileStore, tmp_path: Path, version: str | None) -> None:
    (tmp_path / "secret").write_text("key")
    with pytest.raises(FileNotFoundError):
        await store.open(version)


async def test_an_open_file_stays_readable_when_its_version_is_removed(store: FileStore, tmp_path: Path) -> None:
    stored = await store.write(stream(b"bytes"), max_size=5)
    with await store.open(stored.version) as file:
        await store.remove([None, "probe", stored.version, stored.version])
        assert file.read() == b"bytes"
    assert files_below(tmp_path) == []


async def test_a_copy_outlives_its_source(store: FileStore) -> None:
    source = await store.write(stream(b"bytes"), max_size=5)
    copy = await store.copy(source.version)
    await store.remove([source.version])
    with await store.open(copy) as file:
        assert file.read() == b"bytes"
    with pytest.raises(FileNotFoundError):
        await store.copy(source.version)
