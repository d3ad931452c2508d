"""Uploads: both clients' forms, limits, replacement, concurrency, and the memory they take."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from storage3.exceptions import StorageApiError

from embedded.storage.names import FILE_SIZE_LIMIT
from tests.embedded.storage_support import a_bucket, http_client, run_sql, storage_client
from tests.stack import RunningStack

MEGABYTE = 1024 * 1024


@pytest.fixture
async def bucket(stack: RunningStack) -> AsyncIterator[str]:
    async with a_bucket(stack) as name:
        yield name


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def stored_files(stack: RunningStack) -> set[Path]:
    return {path for path in (stack.data_dir / "files").rglob("*") if path.is_file()}


async def test_a_form_of_the_python_client_is_stored_with_all_it_says(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage:
        uploaded = await storage.from_(bucket).upload(
            "rings/gold 1.png",
            b"gold",
            {"content-type": "image/png", "cache-control": "60", "metadata": {"carat": 18}},
        )
        assert (uploaded.path, uploaded.full_path) == ("rings/gold 1.png", f"{bucket}/rings/gold 1.png")
        assert await storage.from_(bucket).download("rings/gold 1.png") == b"gold"
        [listed] = await storage.from_(bucket).list("rings")
        info = await storage.from_(bucket).info("rings/gold 1.png")
    etag = f'"{hashlib.md5(b"gold").hexdigest()}"'
    expected = {
        "eTag": etag,
        "size": 4,
        "mimetype": "image/png",
        "cacheControl": "max-age=60",
        "lastModified": info["last_modified"],
        "contentLength": 4,
        "httpStatusCode": 200,
    }
    assert listed["metadata"] == expected
    assert info["metadata"] == {"carat": 18}
    assert (info["etag"], info["content_type"], info["cache_control"]) == (etag, "image/png", "max-age=60")


async def test_a_raw_body_is_stored_with_its_headers(stack: RunningStack, bucket: str) -> None:
    """As storage-js sends everything that is not a Blob."""
    async with http_client(stack, token=stack.service_role_jwt) as http:
        answer = await http.post(
            f"/object/{bucket}/note.txt",
            content=b"note",
            headers={
                "content-type": "text/plain",
                "cache-control": "max-age=10",
                "x-metadata": base64.b64encode(json.dumps({"by": "me"}).encode()).decode(),
            },
        )
        info = (await http.get(f"/object/info/{bucket}/note.txt")).json()
    assert answer.json() == {"Id": info["id"], "Key": f"{bucket}/note.txt"}
    assert (info["content_type"], info["cache_control"], info["metadata"]) == (
        "text/plain",
        "max-age=10",
        {"by": "me"},
    )


async def test_an_empty_raw_body_has_the_default_type(stack: RunningStack, bucket: str) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        await http.post(f"/object/{bucket}/empty")
        downloaded = await http.get(f"/object/{bucket}/empty")
    assert downloaded.content == b""
    assert downloaded.headers["content-type"] == "application/octet-stream"
    assert downloaded.headers["cache-control"] == "no-cache"


async def test_a_file_is_uploaded_from_its_path(stack: RunningStack, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "ring.bin").write_bytes(bytes(range(256)) * 5000)
    async with storage_client(stack) as storage:
        await storage.from_(bucket).upload("ring.bin", tmp_path / "ring.bin")
        assert await storage.from_(bucket).download("ring.bin") == bytes(range(256)) * 5000


async def test_a_taken_key_is_a_conflict_and_keeps_its_bytes(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        await files.upload("ring.png", b"first")
        before = stored_files(stack)
        with pytest.raises(StorageApiError) as caught:
            await files.upload("ring.png", b"second")
        assert await files.download("ring.png") == b"first"
    assert (str(caught.value.status), caught.value.code, caught.value.message) == (
        "409",
        "Duplicate",
        "The resource already exists",
    )
    assert stored_files(stack) == before


async def test_an_upsert_and_an_update_replace_the_object_and_drop_the_old_bytes(
    stack: RunningStack, bucket: str
) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        await files.upload("ring.png", b"first")
        before = stored_files(stack)
        first = await files.info("ring.png")
        await files.upload("ring.png", b"second", {"upsert": "true"})
        assert await files.download("ring.png") == b"second"
        await files.update("ring.png", b"third", {"content-type": "image/png"})
        assert await files.download("ring.png") == b"third"
        third = await files.info("ring.png")
        await files.update("new.png", b"made by an update")
        assert await files.download("new.png") == b"made by an update"
    assert third["id"] == first["id"]
    assert third["version"] != first["version"]
    assert len(stored_files(stack)) == len(before) + 1


async def test_of_concurrent_uploads_to_one_key_one_wins(stack: RunningStack, bucket: str) -> None:
    bodies = [f"upload {number}".encode() * 1000 for number in range(8)]
    before = stored_files(stack)
    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        results = await asyncio.gather(*(files.upload("ring.png", body) for body in bodies), return_exceptions=True)
        winners = [body for body, result in zip(bodies, results, strict=True) if not isinstance(result, Exception)]
        errors = [result for result in results if isinstance(result, Exception)]
        assert await files.download("ring.png") == winners[0]
    assert len(winners) == 1
    assert {str(getattr(error, "status", error)) for error in errors} == {"409"}
    assert len(stored_files(stack) - before) == 1


async def test_of_concurrent_upserts_the_last_stands_and_the_others_leave_no_bytes(
    stack: RunningStack, bucket: str
) -> None:
    bodies = [f"upsert {number}".encode() * 1000 for number in range(8)]
    before = stored_files(stack)
    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        await asyncio.gather(*(files.upload("ring.png", body, {"upsert": "true"}) for body in bodies))
        downloaded = await files.download("ring.png")
        info = await files.info("ring.png")
    assert downloaded in bodies
    assert info["etag"] == f'"{hashlib.md5(downloaded).hexdigest()}"'
    assert len(stored_files(stack) - before) == 1


async def test_downloads_during_replacement_are_whole(stack: RunningStack, bucket: str) -> None:
    versions = [bytes([number]) * 300_000 for number in range(10)]
    async with storage_client(stack) as storage:
        files = storage.from_(bucket)
        await files.upload("ring.png", versions[0])

        async def replace() -> None:
            for version in versions[1:]:
                await files.update("ring.png", version)

        replacing = asyncio.create_task(replace())
        seen = []
        while not replacing.done():
            seen.append(await files.download("ring.png"))
        await replacing
    assert all(body in versions for body in seen)


@pytest.mark.parametrize("form", [True, False], ids=["form", "raw"])
async def test_more_than_the_buckets_limit_is_refused_and_leaves_nothing(stack: RunningStack, form: bool) -> None:
    before = stored_files(stack)
    async with (
        a_bucket(stack, file_size_limit=1000) as bucket,
        http_client(stack, token=stack.service_role_jwt) as http,
    ):
        path = f"/object/{bucket}/ring.png"
        if form:
            too_large = await http.post(path, files={"file": ("ring.png", b"x" * 1001, "image/png")})
            fitting = await http.post(path, files={"file": ("ring.png", b"x" * 1000, "image/png")})
        else:
            too_large = await http.post(path, content=b"x" * 1001)
            fitting = await http.post(path, content=b"x" * 1000)
        assert fitting.status_code == 200
        await http.delete(path)
    assert too_large.status_code == 400
    assert too_large.json() == {
        "statusCode": "413",
        "error": "Payload too large",
        "message": "The object exceeded the maximum allowed size",
        "code": "EntityTooLarge",
    }
    assert stored_files(stack) == before


async def test_a_length_above_the_projects_limit_is_refused_before_the_body_is_sent(
    stack: RunningStack, bucket: str
) -> None:
    host, port = stack.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        f"POST /storage/v1/object/{bucket}/huge HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {stack.service_role_jwt}\r\nContent-Length: {FILE_SIZE_LIMIT + 1}\r\n\r\n"
    )
    writer.write(request.encode())
    answer = await asyncio.wait_for(reader.readuntil(b"EntityTooLarge"), 10)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 400")


async def test_a_body_without_a_length_is_cut_at_the_limit(stack: RunningStack) -> None:
    before = stored_files(stack)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 1000

    async with (
        a_bucket(stack, file_size_limit=20_000) as bucket,
        http_client(stack, token=stack.service_role_jwt) as http,
    ):
        answer = await http.post(f"/object/{bucket}/huge", content=body())
    assert answer.json()["code"] == "EntityTooLarge"
    assert stored_files(stack) == before


async def test_an_upload_that_breaks_off_leaves_nothing(stack: RunningStack, bucket: str) -> None:
    before = stored_files(stack)
    host, port = stack.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    request = (
        f"POST /storage/v1/object/{bucket}/half HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {stack.service_role_jwt}\r\nContent-Length: {4 * MEGABYTE}\r\n\r\n"
    )
    writer.write(request.encode() + b"x" * (2 * MEGABYTE))
    await writer.drain()
    await eventually(lambda: stored_files(stack) != before)
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: stored_files(stack) == before)
    async with storage_client(stack) as storage:
        assert not await storage.from_(bucket).exists("half")


async def test_a_media_type_the_bucket_does_not_take_is_refused(stack: RunningStack) -> None:
    async with a_bucket(stack, allowed_mime_types=["image/*"]) as bucket, storage_client(stack) as storage:
        files = storage.from_(bucket)
        with pytest.raises(StorageApiError) as caught:
            await files.upload("note.txt", b"text", {"content-type": "text/plain"})
        await files.upload("ring.png", b"ring", {"content-type": "image/png"})
    assert (str(caught.value.status), caught.value.code, caught.value.message) == (
        "415",
        "invalid_mime_type",
        "mime type text/plain is not supported",
    )


async def test_a_key_with_an_umlaut_is_refused(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage:
        with pytest.raises(StorageApiError, match=r"Invalid key: größe\.png") as caught:
            await storage.from_(bucket).upload("größe.png", b"ring")
    assert (str(caught.value.status), caught.value.code) == ("400", "InvalidKey")


async def test_dots_in_a_key_are_only_letters(stack: RunningStack, bucket: str) -> None:
    """A key never becomes a path: a raw request can name one that a browser would resolve."""
    host, port = stack.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = (
        f"POST /storage/v1/object/{bucket}/..%2f..%2f..%2fescaped HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Authorization: Bearer {stack.service_role_jwt}\r\nContent-Length: 1\r\n\r\nx"
    )
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert b'"Key":"' + bucket.encode() + b'/../../../escaped"' in answer
    assert not list(stack.data_dir.parent.rglob("escaped"))


async def test_without_a_token_nothing_is_taken(stack: RunningStack, bucket: str) -> None:
    async with http_client(stack) as http:
        unsigned = await http.post(f"/object/{bucket}/ring.png", content=b"x")
    async with http_client(stack, token="not.a.token") as http:
        forged = await http.post(f"/object/{bucket}/ring.png", content=b"x")
    assert unsigned.status_code == forged.status_code == 400
    assert unsigned.json() == {
        "statusCode": "400",
        "error": "Error",
        "message": "headers must have required property 'authorization'",
    }
    assert (forged.json()["statusCode"], forged.json()["error"]) == ("403", "Unauthorized")


async def test_a_signed_link_uploads_without_a_token_and_once(stack: RunningStack, bucket: str) -> None:
    async with storage_client(stack) as storage, http_client(stack) as http:
        files = storage.from_(bucket)
        link = await files.create_signed_upload_url("ring.png")
        uploaded = await files.upload_to_signed_url("ring.png", link["token"], b"ring", {"content-type": "image/png"})
        assert uploaded.full_path == f"{bucket}/ring.png"
        assert await files.download("ring.png") == b"ring"

        again = await http.put(link["signed_url"], content=b"again")
        elsewhere = await http.put(
            f"/object/upload/sign/{bucket}/other.png", params={"token": link["token"]}, content=b"x"
        )
        download = await http.get(f"/object/sign/{bucket}/ring.png", params={"token": link["token"]})
        with pytest.raises(StorageApiError, match="The resource already exists"):
            await files.create_signed_upload_url("ring.png")
    assert again.json()["statusCode"] == "409"
    assert elsewhere.json()["code"] == download.json()["code"] == "InvalidSignature"


async def test_a_signed_link_that_allows_it_replaces(stack: RunningStack, bucket: str) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        await http.post(f"/object/{bucket}/ring.png", content=b"first")
        signed = await http.post(f"/object/upload/sign/{bucket}/ring.png", headers={"x-upsert": "true"})
        await http.put(signed.json()["url"], content=b"second")
        assert (await http.get(f"/object/{bucket}/ring.png")).content == b"second"


async def test_a_row_made_by_plain_sql_has_no_bytes_and_says_so(stack: RunningStack, bucket: str) -> None:
    await run_sql(
        stack,
        f"insert into storage.objects (bucket_id, name, version) values ('{bucket}', 'ghost', '../../ports.json')",
    )
    async with storage_client(stack) as storage:
        with pytest.raises(StorageApiError, match="Object not found"):
            await storage.from_(bucket).download("ghost")
        assert [row["name"] for row in await storage.from_(bucket).remove(["ghost"])] == ["ghost"]
    assert (stack.data_dir / "ports.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process from /proc")
@pytest.mark.parametrize("form", [True, False], ids=["form", "raw"])
async def test_fifty_megabytes_pass_through_a_few(stack: RunningStack, bucket: str, tmp_path: Path, form: bool) -> None:
    """Up and down again, the service must hold a small part of the object at a time."""
    content = tmp_path / "content"
    content.write_bytes(bytes(range(256)) * (FILE_SIZE_LIMIT // 256))
    async with http_client(stack, token=stack.service_role_jwt) as http:
        await http.post(f"/object/{bucket}/warm-up", content=b"x" * MEGABYTE)
        before = reset_peak_memory(stack.pid)
        if form:
            with content.open("rb") as file:
                answer = await http.post(f"/object/{bucket}/large", files={"file": ("large", file)})
        else:
            answer = await http.post(f"/object/{bucket}/large", content=read_in_pieces(content))
        assert answer.status_code == 200
        digest, size = hashlib.md5(), 0
        async with http.stream("GET", f"/object/{bucket}/large") as download:
            async for chunk in download.aiter_bytes():
                digest.update(chunk)
                size += len(chunk)
        growth = peak_memory(stack.pid) - before
    assert (size, f'"{digest.hexdigest()}"') == (FILE_SIZE_LIMIT, download.headers["etag"])
    assert growth < 12 * MEGABYTE


async def read_in_pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(256 * 1024):
            yield piece


def reset_peak_memory(pid: int) -> int:
    """Bytes the process holds now; its peak is counted from here on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_memory(pid)


def peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
