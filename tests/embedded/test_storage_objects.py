"""Lists, move, copy and removal through the official Python client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
from storage3.exceptions import StorageApiError
from storage3.types import SearchV2Options, SearchV2Result

from tests.embedded.storage_support import a_bucket, http_client, run_sql, storage_client
from tests.stack import RunningStack

KEYS = ["a.png", "B.png", "dir-file.png", "dir/1.png", "dir/2.png", "dir/sub/3.png", "Dir2/4.png", "z_%/5.png"]


@pytest.fixture
async def bucket(stack: RunningStack) -> AsyncIterator[str]:
    async with a_bucket(stack) as name:
        yield name


@pytest.fixture
async def listed_bucket(stack: RunningStack, bucket: str) -> str:
    """A bucket with one object per key, each created a second after the one before."""
    rows = ", ".join(f"('{bucket}', '{key}', now() + interval '{number} s', now())" for number, key in enumerate(KEYS))
    await run_sql(stack, f"insert into storage.objects (bucket_id, name, created_at, updated_at) values {rows}")
    return bucket


async def test_a_list_shows_one_folder_with_names_relative_to_it(stack: RunningStack, listed_bucket: str) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(listed_bucket)
        top = [(entry["name"], entry["id"] is None) for entry in await files.list()]
        assert top == [
            ("a.png", False),
            ("B.png", False),
            ("dir-file.png", False),
            ("dir", True),
            ("Dir2", True),
            ("z_%", True),
        ]
        for folder in ("dir", "dir/", "DIR"):
            assert [entry["name"] for entry in await files.list(folder)] == ["1.png", "2.png", "sub"], folder
        assert await files.list("missing") == []
        assert await files.list("z_") == []


async def test_a_folder_has_all_fields_and_all_of_them_null(stack: RunningStack, listed_bucket: str) -> None:
    async with storage_client(stack) as storage:
        folder = (await storage.from_(listed_bucket).list())[3]
    assert folder == {
        "name": "dir",
        "id": None,
        "updated_at": None,
        "created_at": None,
        "last_accessed_at": None,
        "metadata": None,
    }


async def test_a_list_is_paged_ordered_and_searched(stack: RunningStack, listed_bucket: str) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(listed_bucket)
        page = await files.list(None, {"limit": 2, "offset": 1})
        assert [entry["name"] for entry in page] == ["B.png", "dir-file.png"]
        backwards = await files.list(None, {"sortBy": {"column": "name", "order": "desc"}})
        assert [entry["name"] for entry in backwards][:2] == ["z_%", "Dir2"]
        newest = await files.list("dir", {"sortBy": {"column": "created_at", "order": "desc"}})
        assert [entry["name"] for entry in newest] == ["sub", "2.png", "1.png"]
        found = await files.list(None, {"search": "DIR-"})
        assert [entry["name"] for entry in found] == ["dir-file.png"]
        assert await files.list(None, {"search": "%"}) == []


@pytest.mark.parametrize(
    "body", [{"limit": 10}, {"prefix": "", "limit": 0}, {"prefix": "", "onlyNew": True}, {"prefix": 1}]
)
async def test_a_list_with_a_bad_or_unknown_option_is_refused(
    stack: RunningStack, bucket: str, body: dict[str, object]
) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        answer = await http.post(f"/object/list/{bucket}", json=body)
    assert (answer.status_code, answer.json()["statusCode"]) == (400, "400")


async def test_list_v2_gives_whole_names_under_any_prefix(stack: RunningStack, listed_bucket: str) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(listed_bucket)
        everything = await files.list_v2()
        assert [found.name for found in everything.objects] == sorted(KEYS)
        assert (everything.folders, everything.hasNext, everything.nextCursor) == ([], False, None)
        some = await files.list_v2({"prefix": "dir"})
        assert [found.name for found in some.objects] == ["dir-file.png", "dir/1.png", "dir/2.png", "dir/sub/3.png"]
        level = await files.list_v2({"prefix": "dir/", "with_delimiter": True})
        assert [folder.name for folder in level.folders] == ["dir/sub/"]
        assert [found.name for found in level.objects] == ["dir/1.png", "dir/2.png"]


@pytest.mark.parametrize("with_delimiter", [False, True])
@pytest.mark.parametrize("column", ["name", "created_at", "updated_at"])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_the_pages_of_list_v2_add_up_to_the_whole(
    stack: RunningStack,
    listed_bucket: str,
    with_delimiter: bool,
    column: Literal["name", "created_at", "updated_at"],
    order: Literal["asc", "desc"],
) -> None:
    options: SearchV2Options = {"with_delimiter": with_delimiter, "sortBy": {"column": column, "order": order}}
    async with storage_client(stack) as storage:
        files = storage.from_(listed_bucket)
        whole = names_of(await files.list_v2(options))
        paged: list[str] = []
        page = await files.list_v2({**options, "limit": 1})
        while page.nextCursor is not None:
            paged += names_of(page)
            page = await files.list_v2({**options, "limit": 1, "cursor": page.nextCursor})
        paged += names_of(page)
    assert len(whole) == (6 if with_delimiter else len(KEYS))
    assert sorted(paged) == sorted(whole)
    if not with_delimiter:  # with it, an answer holds folders and objects apart
        assert paged == whole
    if column == "created_at" and not with_delimiter:
        assert whole == (KEYS if order == "asc" else KEYS[::-1])


def names_of(page: SearchV2Result) -> list[str]:
    return [folder.name for folder in page.folders] + [found.name for found in page.objects]


async def test_a_forged_cursor_is_refused(stack: RunningStack, listed_bucket: str) -> None:
    async with storage_client(stack) as storage:
        for cursor in ("nonsense", "WyJpZCIsIGZhbHNlLCAiYSIsIG51bGxd", "WyJ1cGRhdGVkX2F0IixmYWxzZSwiYSIsIngiXQ=="):
            with pytest.raises(StorageApiError) as caught:
                await storage.from_(listed_bucket).list_v2({"cursor": cursor})
            assert str(caught.value.status) == "400", cursor


async def test_a_moved_object_keeps_its_bytes_and_its_id(stack: RunningStack, bucket: str) -> None:
    async with a_bucket(stack) as other, storage_client(stack) as storage:
        files = storage.from_(bucket)
        await files.upload("ring.png", b"ring", {"metadata": {"carat": 18}})
        before = await files.info("ring.png")
        moved = await files.move("ring.png", "new/ring.png")
        assert moved == {"message": "Successfully moved", "Id": before["id"], "Key": f"{bucket}/new/ring.png"}
        assert await files.download("new/ring.png") == b"ring"
        assert (await files.info("new/ring.png"))["metadata"] == {"carat": 18}
        assert not await files.exists("ring.png")

        async with http_client(stack, token=stack.service_role_jwt) as http:
            body = {"bucketId": bucket, "sourceKey": "new/ring.png", "destinationKey": "ring.png"}
            await http.post("/object/move", json={**body, "destinationBucket": other})
        assert await storage.from_(other).download("ring.png") == b"ring"


async def test_a_copy_has_bytes_of_its_own(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        await files.upload("ring.png", b"ring", {"content-type": "image/png", "metadata": {"carat": 18}})
        copied = await files.copy("ring.png", "copy.png")
        assert copied["Key"] == f"{bucket}/copy.png"
        assert copied["Id"] == copied["id"] == (await files.info("copy.png"))["id"]
        await files.update("ring.png", b"changed")
        await files.remove(["ring.png"])
        assert await files.download("copy.png") == b"ring"
        info = await files.info("copy.png")
    assert (info["metadata"], info["content_type"], info["size"]) == ({"carat": 18}, "image/png", 4)


async def test_a_copy_may_have_metadata_of_its_own(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage, http_client(stack, token=stack.service_role_jwt) as http:
        files = storage.from_(bucket)
        await files.upload("ring.png", b"ring", {"content-type": "image/png", "metadata": {"carat": 18}})
        body = {"bucketId": bucket, "sourceKey": "ring.png", "destinationKey": "copy.png", "copyMetadata": False}
        metadata = {"mimetype": "image/webp", "cacheControl": "no-store"}
        await http.post("/object/copy", json={**body, "metadata": metadata})
        info = await files.info("copy.png")
    assert (info["metadata"], info["content_type"], info["cache_control"]) == ({}, "image/webp", "no-store")


async def test_neither_move_nor_copy_overwrites_unasked(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage, http_client(stack, token=stack.service_role_jwt) as http:
        files = storage.from_(bucket)
        await files.upload("one.png", b"one")
        await files.upload("two.png", b"two")
        for attempt in (files.move("one.png", "two.png"), files.copy("one.png", "two.png")):
            with pytest.raises(StorageApiError) as caught:
                await attempt
            assert (str(caught.value.status), caught.value.code) == ("409", "Duplicate")
        assert await files.download("two.png") == b"two"

        body = {"bucketId": bucket, "sourceKey": "one.png", "destinationKey": "two.png"}
        assert (await http.post("/object/copy", json=body, headers={"x-upsert": "true"})).status_code == 200
        assert await files.download("two.png") == b"one"


async def test_what_is_missing_cannot_be_moved_or_copied(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        for attempt in (files.move("missing.png", "a.png"), files.copy("missing.png", "a.png")):
            with pytest.raises(StorageApiError, match="Object not found"):
                await attempt
        await files.upload("ring.png", b"ring")
        for attempt in (files.move("ring.png", "größe.png"), files.copy("ring.png", "größe.png")):
            with pytest.raises(StorageApiError, match="Invalid key"):
                await attempt


async def test_removal_takes_rows_and_bytes_and_skips_what_is_not_there(stack: RunningStack, bucket: str) -> None:
    def on_disk(version: str) -> bool:
        return (stack.data_dir / "files" / "objects" / version[:2] / version).exists()

    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        await files.upload("a/1.png", b"1")
        await files.upload("a/2.png", b"2")
        version = (await files.info("a/1.png"))["version"]
        assert on_disk(version)
        removed = await files.remove(["a/1.png", "missing.png", "a"])
        assert [(row["name"], row["bucket_id"]) for row in removed] == [("a/1.png", bucket)]
        assert not on_disk(version)
        assert [entry["name"] for entry in await files.list("a")] == ["2.png"]


async def test_one_object_is_removed_by_its_address(stack: RunningStack, bucket: str) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        await http.post(f"/object/{bucket}/ring.png", content=b"ring")
        assert (await http.delete(f"/object/{bucket}/ring.png")).json() == {"message": "Successfully deleted"}
        again = await http.delete(f"/object/{bucket}/ring.png")
        assert again.json()["code"] == "NoSuchKey"
        assert (await http.delete(f"/cdn/{bucket}/ring.png")).json() == {"message": "success"}
