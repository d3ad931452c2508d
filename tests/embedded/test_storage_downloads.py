"""Downloads: who may, which bytes, under which headers."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import httpx
import jwt
import pytest
from starlette.datastructures import Headers
from storage3.exceptions import StorageApiError

from embedded.storage.file_response import content_disposition, matches_etag, requested_range
from tests.embedded.storage_support import a_bucket, http_client, storage_client
from tests.stack import RunningStack

CONTENT = bytes(range(256)) * 4


@pytest.fixture
async def public_bucket(stack: RunningStack) -> AsyncIterator[str]:
    async with a_bucket(stack, public=True) as name, storage_client(stack) as storage:
        await storage.from_(name).upload("ring.png", CONTENT, {"content-type": "image/png", "cache-control": "60"})
        yield name


@pytest.fixture
async def private_bucket(stack: RunningStack) -> AsyncIterator[str]:
    async with a_bucket(stack) as name, storage_client(stack) as storage:
        await storage.from_(name).upload("a/ring 1.png", CONTENT, {"content-type": "image/png"})
        yield name


@pytest.fixture
async def anybody(stack: RunningStack) -> AsyncIterator[httpx.AsyncClient]:
    """A client without any key."""
    async with http_client(stack) as http:
        yield http


async def test_a_public_bucket_is_read_without_a_key(
    stack: RunningStack, public_bucket: str, anybody: httpx.AsyncClient
) -> None:
    async with storage_client(stack, stack.publishable_key) as storage:
        url = await storage.from_(public_bucket).get_public_url("ring.png")
    assert url == f"{stack.url}/storage/v1/object/public/{public_bucket}/ring.png"
    answer = await anybody.get(url)
    assert answer.content == CONTENT
    headers = answer.headers
    assert headers["content-type"] == "image/png"
    assert headers["content-length"] == str(len(CONTENT))
    assert headers["cache-control"] == "max-age=60"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-robots-tag"] == "none"
    assert re.fullmatch('"[0-9a-f]{32}"', headers["etag"])
    assert abs(parsedate_to_datetime(headers["last-modified"]).timestamp() - time.time()) < 60
    assert (await anybody.get(f"/object/{public_bucket}/ring.png")).content == CONTENT


async def test_head_answers_as_get_without_the_bytes(public_bucket: str, anybody: httpx.AsyncClient) -> None:
    path = f"/object/public/{public_bucket}/ring.png"
    got, headed = await anybody.get(path), await anybody.head(path)
    varying = {"date"}
    assert headed.status_code == 200
    assert headed.content == b""
    assert {k: v for k, v in headed.headers.items() if k not in varying} == {
        k: v for k, v in got.headers.items() if k not in varying
    }


async def test_a_private_bucket_is_closed_to_everybody_without_a_right(
    stack: RunningStack, private_bucket: str, anybody: httpx.AsyncClient
) -> None:
    for path in ("object/public", "object", "object/info/public", "object/info", "render/image/public"):
        answer = await anybody.get(f"/{path}/{private_bucket}/a/ring 1.png")
        assert (answer.status_code, answer.json()["code"]) == (400, "NoSuchBucket"), path
    unsigned = await anybody.get(f"/object/authenticated/{private_bucket}/a/ring 1.png")
    assert unsigned.json()["message"] == "headers must have required property 'authorization'"
    async with storage_client(stack, stack.publishable_key) as storage:
        with pytest.raises(StorageApiError) as caught:
            await storage.from_(private_bucket).download("a/ring 1.png")
    assert (str(caught.value.status), caught.value.code, caught.value.message) == (
        "404",
        "not_found",
        "Object not found",
    )


async def test_existence_is_told_apart_from_other_errors(
    stack: RunningStack, public_bucket: str, private_bucket: str
) -> None:
    async with storage_client(stack) as storage:
        assert await storage.from_(private_bucket).exists("a/ring 1.png")
        assert not await storage.from_(private_bucket).exists("a")
        with pytest.raises(StorageApiError, match="Bucket not found"):
            await storage.from_("no-such-bucket").exists("ring.png")
    async with storage_client(stack, stack.publishable_key) as storage:
        assert await storage.from_(public_bucket).exists("ring.png")


async def test_every_path_of_a_download_gives_the_same_bytes(stack: RunningStack, private_bucket: str) -> None:
    async with http_client(stack, token=stack.secret_key) as without_apikey:
        # A key that is no token counts only in the header `apikey`.
        assert (await without_apikey.get(f"/object/{private_bucket}/a/ring 1.png")).status_code == 400
    async with http_client(stack, token=stack.service_role_jwt) as http:
        for path in ("object", "object/authenticated", "render/image/authenticated"):
            answer = await http.get(f"/{path}/{private_bucket}/a/ring 1.png")
            assert answer.content == CONTENT, path
        for path in ("object/info", "object/info/authenticated"):
            assert (await http.get(f"/{path}/{private_bucket}/a/ring 1.png")).json()["size"] == len(CONTENT), path


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-99", 0, 99), ("bytes=1000-", 1000, 1023), ("bytes=-24", 1000, 1023), ("bytes=500-9999", 500, 1023)],
)
async def test_a_range_gives_just_those_bytes(
    public_bucket: str, anybody: httpx.AsyncClient, asked: str, first: int, last: int
) -> None:
    answer = await anybody.get(f"/object/public/{public_bucket}/ring.png", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == CONTENT[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/1024"
    assert answer.headers["content-length"] == str(last + 1 - first)


async def test_a_range_behind_the_end_is_416(public_bucket: str, anybody: httpx.AsyncClient) -> None:
    answer = await anybody.get(f"/object/public/{public_bucket}/ring.png", headers={"range": "bytes=1024-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1024")
    assert answer.json()["code"] == "InvalidRange"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"range": "bytes=0-0"}, (0, 1)),
        ({"range": "bytes=-5000"}, (0, 1024)),
        ({"range": "bytes=0-1,5-6"}, None),
        ({"range": "lines=0-1"}, None),
        ({"range": "bytes=-"}, None),
        ({"range": "bytes=9-3"}, None),
        ({"range": "bytes=0-9", "if-range": '"now"'}, (0, 10)),
        ({"range": "bytes=0-9", "if-range": '"before"'}, None),
    ],
)
def test_only_a_single_sound_range_of_the_current_version_counts(
    headers: dict[str, str], expected: tuple[int, int] | None
) -> None:
    assert requested_range(Headers(headers), size=1024, etag='"now"') == expected


async def test_an_unchanged_object_is_not_sent_again(public_bucket: str, anybody: httpx.AsyncClient) -> None:
    path = f"/object/public/{public_bucket}/ring.png"
    etag = (await anybody.get(path)).headers["etag"]
    unchanged = await anybody.get(path, headers={"if-none-match": etag})
    changed = await anybody.get(path, headers={"if-none-match": '"another"'})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    assert changed.status_code == 200


@pytest.mark.parametrize(
    ("header", "matches"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False)],
)
def test_any_of_the_clients_tags_may_match(header: str | None, matches: bool) -> None:
    assert matches_etag(header, '"a"') is matches


async def test_a_download_may_be_named(public_bucket: str, anybody: httpx.AsyncClient) -> None:
    path = f"/object/public/{public_bucket}/ring.png"
    assert "content-disposition" not in (await anybody.get(path)).headers
    for query in ("download", "download="):
        assert (await anybody.get(f"{path}?{query}")).headers["content-disposition"] == "attachment;"
    named = await anybody.get(path, params={"download": 'ä"\r\nx: y.png'})
    encoded = "%C3%A4%22%0D%0Ax%3A%20y.png"
    assert named.headers["content-disposition"] == f"attachment; filename={encoded}; filename*=UTF-8''{encoded}"
    plain = "ring%20(1).png"
    assert content_disposition("ring (1).png") == f"attachment; filename={plain}; filename*=UTF-8''{plain}"


async def test_html_is_served_as_text(stack: RunningStack, public_bucket: str, anybody: httpx.AsyncClient) -> None:
    async with storage_client(stack) as storage:
        await storage.from_(public_bucket).upload("page.html", b"<p>", {"content-type": "text/html; charset=utf-8"})
    answer = await anybody.get(f"/object/public/{public_bucket}/page.html")
    assert answer.headers["content-type"] == "text/plain"


async def test_a_stored_type_cannot_smuggle_headers(
    stack: RunningStack, public_bucket: str, anybody: httpx.AsyncClient
) -> None:
    async with http_client(stack, token=stack.service_role_jwt) as http:
        form = {"cacheControl": "1\r\nset-cookie: a=b"}
        await http.post(f"/object/{public_bucket}/evil", data=form, files={"file": ("evil", b"x")})
    answer = await anybody.get(f"/object/public/{public_bucket}/evil")
    assert (answer.status_code, answer.json()["code"]) == (400, "InvalidRequest")
    assert "set-cookie" not in answer.headers


async def test_a_signed_link_opens_a_private_object_until_it_expires(
    stack: RunningStack, private_bucket: str, anybody: httpx.AsyncClient
) -> None:
    async with storage_client(stack) as storage:
        url = (await storage.from_(private_bucket).create_signed_url("a/ring 1.png", 60))["signedURL"]
        named = (await storage.from_(private_bucket).create_signed_url("a/ring 1.png", 60, {"download": "x.png"}))[
            "signedURL"
        ]
    assert url is not None
    assert named is not None
    answer = await anybody.get(url)
    assert answer.content == CONTENT
    assert abs(parsedate_to_datetime(answer.headers["expires"]).timestamp() - time.time() - 60) < 5
    assert "cache-control" not in answer.headers
    assert "filename=x.png" in (await anybody.get(named)).headers["content-disposition"]
    assert (await anybody.head(url)).headers["content-length"] == "1024"
    assert (await anybody.get(url, headers={"range": "bytes=0-9"})).content == CONTENT[:10]


async def test_several_links_are_signed_at_once_with_an_error_for_each_missing_object(
    stack: RunningStack, private_bucket: str, anybody: httpx.AsyncClient
) -> None:
    async with storage_client(stack) as storage:
        links = await storage.from_(private_bucket).create_signed_urls(["a/ring 1.png", "missing.png"], 60)
    assert [(link["path"], link["error"]) for link in links] == [
        ("a/ring 1.png", None),
        ("missing.png", "Either the object does not exist or you do not have access to it"),
    ]
    assert links[0]["signedURL"] is not None
    assert links[1]["signedURL"] is None
    assert (await anybody.get(links[0]["signedURL"])).content == CONTENT


async def test_a_link_with_a_transformation_sends_the_original(
    stack: RunningStack, private_bucket: str, anybody: httpx.AsyncClient
) -> None:
    async with storage_client(stack) as storage:
        files = storage.from_(private_bucket)
        link = await files.create_signed_url("a/ring 1.png", 60, {"transform": {"width": 10}})
        assert await files.download("a/ring 1.png", {"transform": {"width": 10}}) == CONTENT
    assert link["signedURL"] is not None
    assert "/render/image/sign/" in link["signedURL"]
    assert (await anybody.get(link["signedURL"])).content == CONTENT


async def test_a_missing_object_cannot_be_signed(stack: RunningStack, private_bucket: str) -> None:
    async with storage_client(stack) as storage:
        with pytest.raises(StorageApiError, match="Object not found"):
            await storage.from_(private_bucket).create_signed_url("missing.png", 60)
        with pytest.raises(StorageApiError, match="body/expiresIn"):
            await storage.from_(private_bucket).create_signed_url("a/ring 1.png", 0)


async def test_forged_expired_and_misused_links_are_refused(
    stack: RunningStack, private_bucket: str, anybody: httpx.AsyncClient
) -> None:
    path = f"{private_bucket}/a/ring 1.png"
    now = int(time.time())

    def token(secret: str = stack.jwt_secret, **changes: object) -> str:
        claims = {"url": path, "scope": "download", "iat": now, "exp": now + 60, **changes}
        return jwt.encode(claims, secret, algorithm="HS256")

    async def refusal(given: str) -> tuple[str, str]:
        answer = await anybody.get(f"/object/sign/{path}", params={"token": given})
        assert answer.status_code == 400
        return answer.json()["code"], answer.json()["message"]

    assert (await anybody.get(f"/object/sign/{path}", params={"token": token()})).status_code == 200
    assert await refusal(token(secret="x" * 40)) == ("InvalidJWT", "signature verification failed")
    assert await refusal(token(exp=now - 1)) == ("InvalidJWT", '"exp" claim timestamp check failed')
    assert await refusal("nonsense") == ("InvalidJWT", "Invalid Compact JWS")
    assert await refusal("") == ("InvalidJWT", "Invalid Compact JWS")
    assert await refusal(token(url=f"{private_bucket}/other.png")) == ("InvalidSignature", "Invalid signature")
    assert await refusal(token(scope="upload")) == ("InvalidSignature", "Token is not scoped for download")
    assert await refusal(stack.service_role_jwt) == ("InvalidSignature", "Token is not scoped for download")
    unsigned = jwt.encode({"url": path, "scope": "download", "exp": now + 60}, "", algorithm="none")
    assert await refusal(unsigned) == (
        "InvalidJWT",
        "The specified alg value is not allowed",
    )
