"""One scene again, and only what is missing: bought alone, put in its place, the others left as they are."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from packs import load_pack
from tests.shop import Shop, small_photo

KEYS = ["stone", "velvet", "marble", "charcoal"]
ONLY_VELVET = {"prompt_contains": "velvet", "operation": "generate"}
NOBODY = "00000000-0000-4000-8000-000000000000"


async def again(shop: Shop, product_id: str, key: str, **options: Any) -> httpx.Response:
    return await shop.api.post(f"/process/{product_id}/variants/{key}", **options)


def urls_by_key(product: dict[str, Any]) -> dict[str, str]:
    return {variant["key"]: variant["url"] for variant in product["variants"]}


def prompts(shop: Shop) -> set[str]:
    return {line["prompt"] for line in shop.sandbox.invoice()["lines"] if line["prompt"]}


async def whole(shop: Shop, **form: Any) -> tuple[str, dict[str, Any]]:
    """A product with its four scenes, and an invoice that begins anew."""
    product_id = await shop.upload(**form)
    product = await shop.processed(product_id)
    shop.sandbox.delete("/_sandbox/invoice")
    return product_id, product


class TestOneSceneAgain:
    @pytest.mark.parametrize("key", KEYS)
    async def test_it_costs_one_scene_and_takes_its_place(self, shop: Shop, key: str) -> None:
        product_id, before = await whole(shop)
        answer = await again(shop, product_id, key)
        assert (answer.status_code, answer.json()["run_no"]) == (202, 2)
        after = await shop.processed(product_id)
        assert (after["status"], shop.bought()) == ("completed", {"nanobanana": 1})
        old, new = urls_by_key(before), urls_by_key(after)
        assert list(new) == KEYS
        assert [name for name in KEYS if old[name] != new[name]] == [key]
        assert after["generated_image_urls"] == [new[name] for name in KEYS]
        assert after["image_url"] == new["stone"]
        assert [(v["label"], v["status"]) for v in after["variants"]] == [
            (v["label"], "completed") for v in before["variants"]
        ]

    @pytest.mark.parametrize("how", ["json", "data"])
    async def test_it_can_be_asked_for_in_other_words(self, shop: Shop, how: str) -> None:
        product_id, _ = await whole(shop)
        assert (await again(shop, product_id, "velvet", **{how: {"prompt": "On green silk."}})).status_code == 202
        await shop.work()
        assert prompts(shop) == {"On green silk."}

    async def test_each_time_it_is_a_new_picture(self, shop: Shop) -> None:
        product_id, product = await whole(shop)
        seen = {urls_by_key(product)["stone"]}
        for _ in range(2):
            await again(shop, product_id, "stone")
            seen.add(urls_by_key(await shop.processed(product_id))["stone"])
        assert len(seen) == 3
        assert shop.bought() == {"nanobanana": 2}

    async def test_of_a_restored_photograph_it_takes_the_cutout_that_is_there(self, shop: Shop) -> None:
        product_id, _ = await whole(shop, steps="restore,colourise")
        await again(shop, product_id, "stone")
        await shop.work()
        assert shop.bought() == {"nanobanana": 1}

    async def test_when_it_fails_everything_stays_and_the_next_run_tries_only_it(self, shop: Shop) -> None:
        product_id, before = await whole(shop)
        shop.sandbox.rule({"name": "task_failed"}, operation="generate", times=1)
        await again(shop, product_id, "marble", json={"prompt": "On snow."})
        failed = await shop.processed(product_id)
        assert failed["status"] == "failed"
        assert failed["generated_image_urls"] == before["generated_image_urls"]
        shop.sandbox.delete("/_sandbox/invoice")
        await shop.again(product_id)
        after = await shop.processed(product_id)
        assert (after["status"], shop.bought()) == ("completed", {"nanobanana": 1})
        assert prompts(shop) == {"On snow."}
        assert [k for k in KEYS if urls_by_key(after)[k] != urls_by_key(before)[k]] == ["marble"]

    async def test_cancelled_with_its_call_in_flight_it_is_not_bought_again(self, shop: Shop) -> None:
        product_id, before = await whole(shop)
        shop.sandbox.behave(latency={"scene": 1})
        await again(shop, product_id, "stone")

        async def cancel() -> None:
            while not shop.rows("select 1 from calls where state = 'sent' and task_id is not null"):
                await asyncio.sleep(0.02)
            assert (await shop.api.post(f"/product/{product_id}/cancel")).status_code == 202

        await asyncio.gather(shop.work(), cancel())
        assert (await shop.product(product_id))["status"] == "cancelled"
        await shop.again(product_id)
        after = await shop.processed(product_id)
        assert shop.bought() == {"nanobanana": 1}
        assert [k for k in KEYS if urls_by_key(after)[k] != urls_by_key(before)[k]] == ["stone"]

    async def test_after_a_run_without_any_scene_it_is_the_first(self, shop: Shop) -> None:
        shop.sandbox.rule({"name": "task_failed"}, operation="generate", times=4)
        product_id = await shop.upload()
        assert (await shop.processed(product_id))["status"] == "failed"
        await again(shop, product_id, "marble")
        product = await shop.processed(product_id)
        assert product["status"] == "completed"
        assert len(product["generated_image_urls"]) == 1
        assert [(v["key"], v["status"]) for v in product["variants"]] == [
            ("stone", "missing"), ("velvet", "missing"), ("marble", "completed"), ("charcoal", "missing"),
        ]  # fmt: skip
        shop.sandbox.delete("/_sandbox/invoice")
        await shop.again(product_id)
        product = await shop.processed(product_id)
        assert (len(product["generated_image_urls"]), shop.bought()) == (4, {"nanobanana": 3})
        assert product["error_message"] is None

    async def test_what_cannot_be_is_refused(self, shop: Shop) -> None:
        product_id, _ = await whole(shop)
        answer = await again(shop, product_id, "moon")
        assert (answer.status_code, "moon" in answer.json()["detail"]) == (404, True)
        assert (await again(shop, NOBODY, "stone")).status_code == 404
        assert (await again(shop, product_id, "stone", json={"prompt": "x" * 2561})).status_code == 422
        assert (await again(shop, product_id, "stone", json={"prompt": 7})).status_code == 422
        assert (await again(shop, product_id, "stone", headers={"X-API-Key": ""})).status_code == 401
        headers = {"Content-Type": "application/json"}
        assert (await again(shop, product_id, "stone", content=b"{", headers=headers)).status_code == 400
        first = await again(shop, product_id, "stone")
        second = await again(shop, product_id, "velvet")
        assert (second.status_code, second.json()["run_id"]) == (409, first.json()["run_id"])

    async def test_a_repeat_with_the_same_key_is_the_same_run(self, shop: Shop) -> None:
        product_id, _ = await whole(shop)
        headers = {"Idempotency-Key": "stone-1"}
        first = await again(shop, product_id, "stone", headers=headers)
        await shop.work()
        assert (await again(shop, product_id, "stone", headers=headers)).json() == first.json()
        assert shop.bought() == {"nanobanana": 1}


class TestOnlyWhatIsMissing:
    async def test_a_scene_made_again_never_gives_way_to_its_older_twin(self, shop: Shop) -> None:
        """Velvet is missing, stone is made again, then what is missing is completed: stone keeps its new picture."""
        shop.sandbox.rule({"name": "policy_refusal"}, **ONLY_VELVET, times=1)
        product_id, partial = await whole(shop)
        await again(shop, product_id, "stone")
        remade = await shop.processed(product_id)
        assert "Velvet" in remade["error_message"]
        await shop.again(product_id)
        product = await shop.processed(product_id)
        assert shop.bought() == {"nanobanana": 2}
        assert urls_by_key(product)["stone"] == urls_by_key(remade)["stone"] != urls_by_key(partial)["stone"]
        assert (len(product["generated_image_urls"]), product["error_message"]) == (4, None)

    async def test_nothing_else_is_even_begun(self, shop: Shop) -> None:
        shop.sandbox.rule({"name": "policy_refusal"}, **ONLY_VELVET, times=1)
        product_id, _ = await whole(shop)
        run_id = (await shop.again(product_id)).json()["run_id"]
        await shop.work()
        rows = shop.rows("select name from steps where run_id = %s order by started_at", run_id)
        assert [row["name"] for row in rows] == ["cutout", "variant:velvet"]

    async def test_when_it_is_refused_again_the_others_stay(self, shop: Shop) -> None:
        shop.sandbox.rule({"name": "policy_refusal"}, **ONLY_VELVET)
        product_id, before = await whole(shop)
        await shop.again(product_id)
        after = await shop.processed(product_id)
        assert after["status"] == "failed"
        assert after["generated_image_urls"] == before["generated_image_urls"]
        assert (shop.bought(), after["variants"]) == ({}, before["variants"])

    async def test_a_new_photograph_makes_all_scenes_anew(self, shop: Shop) -> None:
        """Else scenes of two photographs would stand side by side."""
        shop.sandbox.rule({"name": "policy_refusal"}, **ONLY_VELVET, times=1)
        product_id, _ = await whole(shop)
        answer = await shop.again(product_id, files={"file": ("b.jpg", small_photo(7))})
        await shop.work()
        rows = shop.rows("select name from steps where run_id = %s", answer.json()["run_id"])
        assert {row["name"] for row in rows} == {"cutout", *(f"variant:{key}" for key in KEYS)}

    async def test_what_the_form_leaves_out_stays_as_it_was(self, shop: Shop) -> None:
        product_id, _ = await whole(shop, steps="restore")
        await shop.again(product_id)
        await shop.work()
        assert shop.bought() == {"nanobanana": 4}
        await shop.again(product_id, data={"steps": ""})
        await shop.work()
        assert shop.bought() == {"nanobanana": 8, "reve": 1}


def test_the_keys_are_the_packs() -> None:
    assert [scene.key for scene in load_pack("jewellery").scenes] == KEYS
