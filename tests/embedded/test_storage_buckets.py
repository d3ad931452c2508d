"""Buckets through the official Python client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError

from tests.embedded.storage_support import a_bucket, http_client, new_bucket_name, storage_client
from tests.stack import RunningStack


@pytest.fixture
async def storage(stack: RunningStack) -> AsyncIterator[AsyncStorageClient]:
    async with storage_client(stack) as client:
        yield client


async def test_a_bucket_is_created_read_changed_and_deleted(storage: AsyncStorageClient) -> None:
    name = new_bucket_name()
    assert await storage.create_bucket(name) == {"name": name}
    bucket = await storage.get_bucket(name)
    assert (bucket.id, bucket.owner, bucket.public, bucket.file_size_limit) == (name, "", False, None)

    changed = await storage.update_bucket(
        name, {"public": True, "file_size_limit": 1000, "allowed_mime_types": ["image/*"]}
    )
    assert changed == {"message": "Successfully updated"}
    bucket = await storage.get_bucket(name)
    assert (bucket.public, bucket.file_size_limit, bucket.allowed_mime_types) == (True, 1000, ["image/*"])

    await storage.update_bucket(name, {"public": False})
    bucket = await storage.get_bucket(name)
    assert (bucket.public, bucket.file_size_limit) == (False, 1000)

    assert name in [bucket.id for bucket in await storage.list_buckets()]
    assert await storage.delete_bucket(name) == {"message": "Successfully deleted"}
    assert name not in [bucket.id for bucket in await storage.list_buckets()]


async def test_a_size_limit_may_be_written_with_a_unit(stack: RunningStack) -> None:
    async with a_bucket(stack) as name, http_client(stack, token=stack.service_role_jwt) as http:
        await http.put(f"/bucket/{name}", json={"file_size_limit": "20MB"})
        assert (await http.get(f"/bucket/{name}")).json()["file_size_limit"] == 20_000_000
        await http.put(f"/bucket/{name}", json={"file_size_limit": None})
        assert (await http.get(f"/bucket/{name}")).json()["file_size_limit"] is None


async def test_buckets_are_listed_by_page_order_and_search(stack: RunningStack) -> None:
    stem = new_bucket_name()
    async with http_client(stack, token=stack.service_role_jwt) as http:
        for ending in "abc":
            await http.post("/bucket", json={"id": f"{stem}-{ending}", "name": f"{stem}-{ending}"})
        query: dict[str, str | int] = {
            "search": stem.upper(),
            "sortColumn": "name",
            "sortOrder": "desc",
            "limit": 2,
            "offset": 1,
        }
        page = (await http.get("/bucket", params=query)).json()
        assert [bucket["id"] for bucket in page] == [f"{stem}-b", f"{stem}-a"]
        assert (await http.get("/bucket", params={"sortColumn": "id; drop"})).status_code == 400
        for ending in "abc":
            await http.delete(f"/bucket/{stem}-{ending}")


async def test_a_bucket_that_is_not_empty_cannot_be_deleted_but_emptied(storage: AsyncStorageClient) -> None:
    name = new_bucket_name()
    await storage.create_bucket(name)
    await storage.from_(name).upload("a/ring.png", b"ring")
    with pytest.raises(StorageApiError) as caught:
        await storage.delete_bucket(name)
    assert (str(caught.value.status), caught.value.code) == ("409", "ResourceNotEmpty")

    answer = await storage.empty_bucket(name)
    assert answer == {"message": "Empty bucket has been queued. Completion may take up to an hour."}
    assert await storage.from_(name).list() == []
    await storage.delete_bucket(name)


async def test_a_name_is_taken_once(stack: RunningStack, storage: AsyncStorageClient) -> None:
    async with a_bucket(stack) as name:
        with pytest.raises(StorageApiError) as caught:
            await storage.create_bucket(name)
    assert (str(caught.value.status), caught.value.code, caught.value.message) == (
        "409",
        "Duplicate",
        "The resource already exists",
    )


async def test_a_missing_bucket_is_said_to_be_missing(storage: AsyncStorageClient) -> None:
    with pytest.raises(StorageApiError) as caught:
        await storage.get_bucket("no-such-bucket")
    assert (str(caught.value.status), caught.value.code) == ("404", "Bucket not found")
    for attempt in (
        storage.delete_bucket("no-such-bucket"),
        storage.empty_bucket("no-such-bucket"),
        storage.update_bucket("no-such-bucket", {"public": True}),
        storage.from_("no-such-bucket").upload("ring.png", b"ring"),
        storage.from_("no-such-bucket").download("ring.png"),
    ):
        with pytest.raises(StorageApiError, match="Bucket not found"):
            await attempt


@pytest.mark.parametrize(
    ("bucket", "status", "error"),
    [
        ({"name": "a/b"}, "400", "Invalid Input"),
        ({"name": ""}, "400", "Invalid Input"),
        ({"name": "fine", "file_size_limit": "a lot"}, "400", "InvalidRequest"),
        ({"name": "fine", "file_size_limit": "51GB"}, "413", "Payload too large"),
        ({"name": "fine", "allowed_mime_types": ["pictures"]}, "415", "invalid_mime_type"),
        ({"public": True}, "400", "InvalidRequest"),
    ],
)
async def test_a_bad_bucket_is_refused(stack: RunningStack, bucket: dict[str, object], status: str, error: str) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        answer = await http.post("/bucket", json=bucket)
    assert answer.status_code == 400
    assert (answer.json()["statusCode"], answer.json()["error"]) == (status, error)


async def test_only_the_service_sees_buckets_while_there_is_no_policy(stack: RunningStack) -> None:
    async with a_bucket(stack) as name, storage_client(stack, stack.publishable_key) as anonymous:
        assert await anonymous.list_buckets() == []
        with pytest.raises(StorageApiError, match="Bucket not found"):
            await anonymous.get_bucket(name)
        with pytest.raises(StorageApiError) as caught:
            await anonymous.create_bucket(new_bucket_name())
    assert (str(caught.value.status), caught.value.code, caught.value.message) == (
        "403",
        "Unauthorized",
        "new row violates row-level security policy",
    )


async def test_an_unknown_route_is_404_in_storages_form(stack: RunningStack) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        unknown = await http.get("/nowhere")
        wrong_method = await http.patch("/bucket")
    assert [answer.status_code for answer in (unknown, wrong_method)] == [404, 404]
    assert unknown.json() == {
        "statusCode": "404",
        "error": "Not Found",
        "message": "Route GET:/storage/v1/nowhere not found",
    }


async def test_resumable_uploads_are_refused_clearly(stack: RunningStack) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        answer = await http.post("/upload/resumable", headers={"Tus-Resumable": "1.0.0"})
    assert (answer.status_code, answer.json()["statusCode"]) == (501, "501")


async def test_the_service_says_that_it_lives(stack: RunningStack) -> None:
    async with http_client(stack) as http:
        assert (await http.get("/status")).status_code == (await http.get("/version")).status_code == 200
