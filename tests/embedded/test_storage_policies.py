"""Policies on `storage.objects` decide, for users and for everybody."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from storage3 import AsyncStorageClient
from storage3.exceptions import StorageApiError

from tests.embedded.storage_support import a_bucket, http_client, run_sql, storage_client, user_token
from tests.stack import RunningStack

DENIED = ("403", "Unauthorized", "new row violates row-level security policy")
HIDDEN = ("404", "not_found", "Object not found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A private bucket with two policies: users own the folder named by their id; `shared/` is readable by all."""

    bucket: str
    user_id: str
    user: AsyncStorageClient
    stranger: AsyncStorageClient
    anonymous: AsyncStorageClient


@pytest.fixture
async def shop(stack: RunningStack) -> AsyncIterator[Shop]:
    user_id, stranger_id = str(uuid.uuid4()), str(uuid.uuid4())
    async with (
        a_bucket(stack) as bucket,
        policies(
            stack,
            f"""for all to authenticated
                using (bucket_id = '{bucket}' and (storage.foldername(name))[1] = auth.uid()::text)
                with check (bucket_id = '{bucket}' and (storage.foldername(name))[1] = auth.uid()::text)""",
            f"""for select to anon, authenticated
                using (bucket_id = '{bucket}' and (storage.foldername(name))[1] = 'shared')""",
        ),
        storage_client(stack, user_token(stack, user_id)) as user,
        storage_client(stack, user_token(stack, stranger_id)) as stranger,
        storage_client(stack, stack.publishable_key) as anonymous,
    ):
        yield Shop(bucket=bucket, user_id=user_id, user=user, stranger=stranger, anonymous=anonymous)


@asynccontextmanager
async def policies(stack: RunningStack, *rules: str) -> AsyncIterator[None]:
    """Policies on `storage.objects` that last as long as the block."""
    named_rules = {f"policy {uuid.uuid4()}": rule for rule in rules}
    for name, rule in named_rules.items():
        await run_sql(stack, f'create policy "{name}" on storage.objects {rule}')
    try:
        yield
    finally:
        for name in named_rules:
            await run_sql(stack, f'drop policy "{name}" on storage.objects')


def refusal(caught: pytest.ExceptionInfo[StorageApiError]) -> tuple[str, str, str]:
    return str(caught.value.status), caught.value.code, caught.value.message


async def test_a_user_does_everything_in_their_own_folder(shop: Shop) -> None:
    files = shop.user.from_(shop.bucket)
    folder = shop.user_id
    await files.upload(f"{folder}/ring.png", b"ring")
    await files.upload(f"{folder}/ring.png", b"gold ring", {"upsert": "true"})
    await files.update(f"{folder}/ring.png", b"silver ring")
    assert await files.download(f"{folder}/ring.png") == b"silver ring"
    assert (await files.info(f"{folder}/ring.png"))["size"] == 11
    assert [entry["name"] for entry in await files.list(folder)] == ["ring.png"]
    assert (await files.create_signed_url(f"{folder}/ring.png", 60))["signedURL"]
    await files.copy(f"{folder}/ring.png", f"{folder}/copy.png")
    await files.move(f"{folder}/copy.png", f"{folder}/moved.png")
    removed = await files.remove([f"{folder}/ring.png", f"{folder}/moved.png"])
    assert {row["owner_id"] for row in removed} == {shop.user_id}
    assert {row["owner"] for row in removed} == {shop.user_id}


async def test_nobody_else_sees_or_changes_it(shop: Shop) -> None:
    key = f"{shop.user_id}/ring.png"
    await shop.user.from_(shop.bucket).upload(key, b"ring")
    for client in (shop.stranger, shop.anonymous):
        files = client.from_(shop.bucket)
        assert await files.list(shop.user_id) == []
        assert (await files.list_v2()).objects == []
        assert await files.remove([key]) == []
        assert not await files.exists(key)
        assert (await files.create_signed_urls([key], 60))[0]["signedURL"] is None
        for hidden in (
            files.download(key),
            files.info(key),
            files.create_signed_url(key, 60),
            files.move(key, "elsewhere.png"),
            files.copy(key, "elsewhere.png"),
        ):
            with pytest.raises(StorageApiError) as caught:
                await hidden
            assert refusal(caught) == HIDDEN
        for denied in (
            files.upload(f"{shop.user_id}/mine.png", b"x"),
            files.upload(key, b"x", {"upsert": "true"}),
            files.update(key, b"x"),
            files.create_signed_upload_url(f"{shop.user_id}/mine.png"),
        ):
            with pytest.raises(StorageApiError) as caught:
                await denied
            assert refusal(caught) == DENIED
    assert await shop.user.from_(shop.bucket).download(key) == b"ring"


async def test_what_a_policy_shares_is_only_readable(stack: RunningStack, shop: Shop) -> None:
    async with storage_client(stack) as service:
        await service.from_(shop.bucket).upload("shared/catalogue.pdf", b"pages")
    files = shop.anonymous.from_(shop.bucket)
    assert await files.download("shared/catalogue.pdf") == b"pages"
    with pytest.raises(StorageApiError) as caught:
        await files.update("shared/catalogue.pdf", b"graffiti")
    assert refusal(caught) == DENIED
    assert await files.remove(["shared/catalogue.pdf"]) == []
    async with http_client(stack, token=stack.anon_jwt) as http:
        answer = await http.delete(f"/object/{shop.bucket}/shared/catalogue.pdf")
    assert (answer.json()["statusCode"], answer.json()["message"]) == ("403", "Access denied")


async def test_a_move_out_of_ones_folder_is_denied(shop: Shop) -> None:
    files = shop.user.from_(shop.bucket)
    await files.upload(f"{shop.user_id}/ring.png", b"ring")
    for attempt in (
        files.move(f"{shop.user_id}/ring.png", "shared/ring.png"),
        files.copy(f"{shop.user_id}/ring.png", "shared/ring.png"),
    ):
        with pytest.raises(StorageApiError) as caught:
            await attempt
        assert refusal(caught) == DENIED
    assert await files.download(f"{shop.user_id}/ring.png") == b"ring"


async def test_a_denied_upload_stores_no_bytes(stack: RunningStack, shop: Shop) -> None:
    def files_on_disk() -> set[Path]:
        return set((stack.data_dir / "files").rglob("*"))

    before = files_on_disk()
    with pytest.raises(StorageApiError):
        await shop.stranger.from_(shop.bucket).upload(f"{shop.user_id}/x.png", b"x" * 100_000)
    assert files_on_disk() == before


async def test_an_insert_policy_alone_allows_new_objects_but_no_upsert(stack: RunningStack) -> None:
    async with (
        a_bucket(stack) as bucket,
        policies(stack, f"for insert to anon with check (bucket_id = '{bucket}')"),
        storage_client(stack, stack.publishable_key) as anonymous,
    ):
        files = anonymous.from_(bucket)
        await files.upload("ring.png", b"ring")
        for attempt in (files.upload("new.png", b"x", {"upsert": "true"}), files.update("ring.png", b"x")):
            with pytest.raises(StorageApiError) as caught:
                await attempt
            assert refusal(caught) == DENIED
        with pytest.raises(StorageApiError) as caught:
            await files.download("ring.png")
        assert refusal(caught) == HIDDEN


async def test_policies_can_judge_an_upload_by_its_announced_metadata(stack: RunningStack) -> None:
    rule = "metadata->>'mimetype' = 'image/png' and user_metadata->>'purpose' = 'shop'"
    async with (
        a_bucket(stack) as bucket,
        policies(stack, f"for insert to anon with check (bucket_id = '{bucket}' and {rule})"),
        storage_client(stack, stack.publishable_key) as anonymous,
    ):
        files = anonymous.from_(bucket)
        await files.upload("a.png", b"x", {"content-type": "image/png", "metadata": {"purpose": "shop"}})
        with pytest.raises(StorageApiError) as caught:
            await files.upload("b.png", b"x", {"content-type": "image/png"})
        assert refusal(caught) == DENIED


async def test_policies_can_tell_reading_from_listing(stack: RunningStack) -> None:
    rule = "storage.allow_any_operation(array['object.get_authenticated', 'object.get_authenticated_info'])"
    async with (
        a_bucket(stack) as bucket,
        policies(stack, f"for select to anon using (bucket_id = '{bucket}' and {rule})"),
        storage_client(stack, stack.publishable_key) as anonymous,
        storage_client(stack) as service,
    ):
        await service.from_(bucket).upload("ring.png", b"ring")
        files = anonymous.from_(bucket)
        assert await files.download("ring.png") == b"ring"
        assert await files.exists("ring.png")
        assert await files.list() == []
        with pytest.raises(StorageApiError, match="Object not found"):
            await files.create_signed_url("ring.png", 60)


async def test_each_call_names_its_operation(stack: RunningStack) -> None:
    """The policy's function answers with an error that says which operation it was asked about."""
    function = f"public.tell_operation_{uuid.uuid4().hex[:8]}()"
    await run_sql(
        stack,
        f"""
        create function {function} returns boolean language plpgsql as $$
        begin
          raise exception using message = storage.operation();
        end $$
        """,
    )
    async with (
        a_bucket(stack) as bucket,
        storage_client(stack, stack.publishable_key) as anonymous,
        storage_client(stack) as service,
    ):
        await service.from_(bucket).upload("ring.png", b"ring")
        async with policies(stack, f"for all to anon using ({function}) with check ({function})"):
            files = anonymous.from_(bucket)
            calls = {
                "storage.object.upload": files.upload("a.png", b"x"),
                "storage.object.upload_update": files.update("ring.png", b"x"),
                "storage.object.get_authenticated": files.download("ring.png"),
                "object.get_authenticated_info": files.info("ring.png"),
                "storage.object.list": files.list(),
                "storage.object.list_v2": files.list_v2(),
                "storage.object.sign": files.create_signed_url("ring.png", 60),
                "storage.object.sign_many": files.create_signed_urls(["ring.png"], 60),
                "storage.object.sign_upload_url": files.create_signed_upload_url("a.png"),
                "storage.object.move": files.move("ring.png", "b.png"),
                "storage.object.copy": files.copy("ring.png", "b.png"),
                "storage.object.delete_many": files.remove(["ring.png"]),
            }
            seen = {}
            for expected, call in calls.items():
                with pytest.raises(StorageApiError) as caught:
                    await call
                seen[expected] = caught.value.message
    await run_sql(stack, f"drop function {function}")
    assert seen == {expected: expected for expected in calls}


async def test_a_link_works_for_whoever_has_it(stack: RunningStack, shop: Shop) -> None:
    key = f"{shop.user_id}/ring.png"
    await shop.user.from_(shop.bucket).upload(key, b"ring")
    link = (await shop.user.from_(shop.bucket).create_signed_url(key, 60))["signedURL"]
    upload = await shop.user.from_(shop.bucket).create_signed_upload_url(f"{shop.user_id}/new.png")
    assert link is not None
    async with http_client(stack) as http:
        assert (await http.get(link)).content == b"ring"
        assert (await http.put(upload["signed_url"], content=b"new")).json() == {
            "Key": f"{shop.bucket}/{shop.user_id}/new.png"
        }
    [removed] = await shop.user.from_(shop.bucket).remove([f"{shop.user_id}/new.png"])
    assert removed["owner_id"] == shop.user_id


async def test_an_expired_users_token_is_refused(stack: RunningStack) -> None:
    token = user_token(stack, str(uuid.uuid4()), lifetime_s=-600)
    async with a_bucket(stack) as bucket, storage_client(stack, token) as storage:
        with pytest.raises(StorageApiError) as caught:
            await storage.from_(bucket).list()
    assert refusal(caught) == ("403", "Unauthorized", '"exp" claim timestamp check failed')
