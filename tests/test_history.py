"""Lists for the shop: its products page by page, and what was done to one of them at what cost."""

from __future__ import annotations

import pytest

from tests.shop import Shop, small_photo

NOBODY = "00000000-0000-4000-8000-000000000000"


async def pages(shop: Shop, **query: str | int) -> list[list[str]]:
    """The ids on each page."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        parameters = query | ({"cursor": cursor} if cursor else {})
        answer = await shop.api.get("/products", params=parameters)
        assert answer.status_code == 200, answer.text
        found.append([item["id"] for item in answer.json()["items"]])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


async def test_products_come_newest_first_and_page_by_page(shop: Shop) -> None:
    ids = [await shop.upload(small_photo(number)) for number in range(5)]
    newest_first = ids[::-1]
    assert await pages(shop) == [newest_first]
    assert await pages(shop, limit=2) == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    assert await pages(shop, limit=5) == [newest_first]


async def test_an_item_is_what_the_product_itself_shows(shop: Shop) -> None:
    product_id = await shop.upload(title="Ring")
    product = await shop.processed(product_id)
    assert (await shop.api.get("/products")).json()["items"] == [product]


async def test_products_made_at_once_are_each_listed_once(shop: Shop) -> None:
    ids = [await shop.upload(small_photo(number)) for number in range(4)]
    shop.execute("update products set created_at = now() where true")
    assert [product_id for page in await pages(shop, limit=1) for product_id in page] == sorted(ids)


async def test_a_new_product_does_not_shift_a_page_that_was_begun(shop: Shop) -> None:
    ids = [await shop.upload(small_photo(number)) for number in range(3)]
    first = (await shop.api.get("/products", params={"limit": 2})).json()
    await shop.upload(small_photo(9))
    second = (await shop.api.get("/products", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids[::-1]


async def test_products_are_listed_by_status(shop: Shop) -> None:
    done = await shop.upload(small_photo(1))
    await shop.work()
    waiting = await shop.upload(small_photo(2))
    assert await pages(shop, status="completed") == [[done]]
    assert await pages(shop, status="pending") == [[waiting]]
    assert await pages(shop, status="failed") == [[]]


@pytest.mark.parametrize(
    ("query", "word"),
    [({"cursor": "rubbish"}, "cursor"), ({"cursor": "MjAyNg=="}, "cursor"), ({"limit": 0}, "limit"),
     ({"limit": 201}, "limit"), ({"status": "lost"}, "status")],
)  # fmt: skip
async def test_wrong_questions_are_named(shop: Shop, query: dict[str, str | int], word: str) -> None:
    answer = await shop.api.get("/products", params=query)
    assert (answer.status_code, word in answer.json()["detail"]) == (422, True)


async def test_the_history_of_a_product_shows_each_call_and_what_it_cost(shop: Shop) -> None:
    shop.sandbox.rule({"name": "lost_answer"}, provider="reve", times=1)
    product_id = await shop.upload()
    await shop.processed(product_id)
    await shop.again(product_id)
    product = await shop.processed(product_id)
    history = (await shop.api.get(f"/product/{product_id}/runs")).json()
    assert [(run["run_no"], run["status"], run["attempts"]) for run in history["runs"]] == [
        (2, "completed", 1), (1, "completed", 1),
    ]  # fmt: skip
    second, first = history["runs"]
    assert [(call["step"], call["provider"], call["state"]) for call in first["calls"]][:2] == [
        ("cutout", "reve", "unknown"), ("cutout", "reve", "done"),
    ]  # fmt: skip
    assert [call["cost_source"] for call in first["calls"]][:2] == ["estimated", "reported"]
    assert {call["step"] for call in second["calls"]} == {
        "variant:stone", "variant:velvet", "variant:marble", "variant:charcoal",
    }  # fmt: skip
    assert all(call["latency_s"] > 0 for call in second["calls"])
    assert history["cost_usd"] == product["cost_usd"] == pytest.approx(first["cost_usd"] + second["cost_usd"])
    assert (history["open_usd"], second["open_usd"]) == (0, 0)


async def test_a_failed_run_says_why_in_the_history(shop: Shop) -> None:
    shop.sandbox.rule({"name": "policy_refusal"}, provider="reve")
    product_id = await shop.upload()
    product = await shop.processed(product_id)
    [run] = (await shop.api.get(f"/product/{product_id}/runs")).json()["runs"]
    assert (run["status"], run["error_message"]) == ("failed", product["error_message"])
    assert run["calls"][0]["error_code"] == run["error_code"]


async def test_lists_are_for_the_shop_alone(shop: Shop) -> None:
    product_id = await shop.upload()
    for path in ("/products", f"/product/{product_id}/runs"):
        assert (await shop.api.get(path, headers={"X-API-Key": ""})).status_code == 401
    assert (await shop.api.get(f"/product/{NOBODY}/runs")).status_code == 404
