"""What a shop does to its products as a whole, on the real stack."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from errors import StoreUnavailableError
from storage import ObjectStore
from tests.shop import Shop, small_photo

NOBODY = "00000000-0000-4000-8000-000000000000"
ALL_ACCEPTED = "select 1 from calls where task_id is not null having count(*) = 4"


async def while_working(shop: Shop, until: Callable[[], object], then: Callable[[], object]) -> None:
    """Let a worker work; when `until` holds, do `then`; the worker goes on until nothing is due."""

    async def watch() -> None:
        while not until():
            await asyncio.sleep(0.02)
        await then()  # type: ignore[misc]

    await asyncio.gather(shop.work(), watch())


def objects_of(shop: Shop, product_id: str) -> list[str]:
    rows = shop.rows("select name from storage.objects where name like %s order by name", f"%{product_id}%")
    return [row["name"] for row in rows]


class TestCancel:
    async def test_what_waits_is_cancelled_and_can_be_started_again(self, shop: Shop) -> None:
        product_id = await shop.upload()
        answer = await shop.api.post(f"/product/{product_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        product = await shop.processed(product_id)
        assert (product["status"], shop.bought()) == ("cancelled", {})
        assert (await shop.again(product_id)).status_code == 202
        assert (await shop.processed(product_id))["status"] == "completed"

    async def test_what_is_paid_for_is_kept_and_not_bought_again(self, shop: Shop) -> None:
        """Cancelled while the cut-out is under way: it is stored, no scene is bought, the next run goes on from it."""
        shop.sandbox.behave(latency={"cutout": 1})
        product_id = await shop.upload()
        answers: list[httpx.Response] = []

        async def cancel() -> None:
            answers.append(await shop.api.post(f"/product/{product_id}/cancel"))
            answers.append(await shop.api.post(f"/product/{product_id}/cancel"))

        await while_working(shop, lambda: shop.bought().get("reve"), cancel)
        assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [(202, "cancelling")] * 2
        product = await shop.product(product_id)
        assert (product["status"], product["generated_image_urls"]) == ("cancelled", [])
        assert shop.bought() == {"reve": 1}
        assert shop.rows("select name, state from steps") == [{"name": "cutout", "state": "done"}]
        await shop.again(product_id)
        product = await shop.processed(product_id)
        assert (product["status"], shop.bought()) == ("completed", {"nanobanana": 4, "reve": 1})

    async def test_scenes_under_way_are_kept_and_the_array_stays_as_it_was(self, shop: Shop) -> None:
        product_id = await shop.upload()
        before = await shop.processed(product_id)
        await shop.again(product_id)
        shop.sandbox.behave(latency={"scene": 1})

        async def cancel() -> None:
            assert (await shop.api.post(f"/product/{product_id}/cancel")).status_code == 202

        accepted = "select 1 from calls where task_id is not null having count(*) = 8"
        await while_working(shop, lambda: shop.rows(accepted), cancel)
        after = await shop.product(product_id)
        assert (after["status"], after["generated_image_urls"]) == ("cancelled", before["generated_image_urls"])
        await shop.again(product_id)
        product = await shop.processed(product_id)
        assert product["status"] == "completed"
        assert not set(product["generated_image_urls"]) & set(before["generated_image_urls"])
        assert shop.bought() == {"nanobanana": 8, "reve": 1}

    async def test_what_is_over_or_absent_is_refused(self, shop: Shop) -> None:
        product_id = await shop.upload()
        await shop.processed(product_id)
        answer = await shop.api.post(f"/product/{product_id}/cancel")
        assert (answer.status_code, "nothing to cancel" in answer.json()["detail"]) == (409, True)
        assert (await shop.api.post(f"/product/{NOBODY}/cancel")).status_code == 404
        assert (await shop.api.post(f"/product/{product_id}/cancel", headers={"X-API-Key": ""})).status_code == 401


class TestDelete:
    async def test_rows_and_every_object_go_and_the_spending_stays(self, shop: Shop) -> None:
        product_id = await shop.upload(small_photo(1))
        await shop.processed(product_id)
        await shop.again(product_id)
        await shop.processed(product_id)
        assert len(objects_of(shop, product_id)) == 10
        answer = await shop.api.delete(f"/product/{product_id}")
        assert (answer.status_code, answer.json()) == (200, {"deleted": product_id, "objects": 10})
        assert objects_of(shop, product_id) == []
        assert (await shop.api.get(f"/product/{product_id}")).status_code == 404
        assert (await shop.api.delete(f"/product/{product_id}")).status_code == 404
        assert shop.rows("select 1 from objects_to_remove") == []
        assert shop.rows("select count(*) as n from calls where product_id is null and settled_micros > 0") == [
            {"n": 9}
        ]

    async def test_a_worker_that_holds_it_stops_and_its_late_object_is_swept(self, shop: Shop) -> None:
        shop.sandbox.behave(latency={"cutout": 1})
        product_id = await shop.upload()

        async def delete() -> None:
            answer = await shop.api.delete(f"/product/{product_id}")
            assert answer.json() == {"deleted": product_id, "objects": 2}

        await while_working(shop, lambda: shop.bought().get("reve"), delete)
        assert shop.bought() == {"reve": 1}
        assert shop.rows("select state from calls") == [{"state": "done"}]
        assert objects_of(shop, product_id) == []
        assert shop.rows("select 1 from objects_to_remove") == []

    async def test_a_storage_that_does_not_answer_loses_nothing(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> int:
            raise StoreUnavailableError("Supabase Storage does not answer.")

        product_id = await shop.upload()
        with monkeypatch.context() as patched:
            patched.setattr(ObjectStore, "remove", fail)
            assert (await shop.api.delete(f"/product/{product_id}")).status_code == 200
        assert len(shop.rows("select 1 from objects_to_remove")) == 1

    async def test_deleting_needs_the_key(self, shop: Shop) -> None:
        product_id = await shop.upload()
        assert (await shop.api.delete(f"/product/{product_id}", headers={"X-API-Key": ""})).status_code == 401
        assert (await shop.product(product_id))["status"] == "pending"
