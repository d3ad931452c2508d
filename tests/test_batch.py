"""Many photographs in one request: each is judged, stored and started as if it had been sent alone."""

from __future__ import annotations

from typing import Any

import httpx

from tests.shop import Shop, small_photo

File = tuple[str, tuple[str, bytes]]


def files(*named: tuple[str, bytes]) -> list[File]:
    return [("files", each) for each in named]


async def batch(shop: Shop, *named: tuple[str, bytes], **options: Any) -> httpx.Response:
    return await shop.api.post("/process/batch", files=files(*named), **options)


async def test_each_file_becomes_a_product(shop: Shop) -> None:
    """PT-55."""
    names = [f"{number}.jpg" for number in range(5)]
    answer = await batch(
        shop, *((name, small_photo(place)) for place, name in enumerate(names)), data={"jewellery_type": "ring"}
    )
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [(result["filename"], result["status"]) for result in results] == [(name, 202) for name in names]
    await shop.work()
    for place, result in enumerate(results):
        product = await shop.product(result["product_id"])
        assert (product["status"], product["jewellery_type"]) == ("completed", "ring")
        assert shop.fetch(product["raw_image_url"]) == small_photo(place)


async def test_a_file_that_is_refused_stops_no_other(shop: Shop) -> None:
    answer = await batch(
        shop,
        ("good.jpg", small_photo(1)),
        ("text.jpg", b"hello, I am text " * 10),
        ("empty.png", b""),
        ("heavy.jpg", small_photo(2) + bytes(11_000_000)),
        ("cut.jpg", small_photo(3)[:1500]),
        ("also good.png", small_photo(4, image_format="PNG")),
    )
    assert answer.status_code == 202
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [202, 415, 422, 413, 422, 202]
    assert all(("detail" in result) != ("product_id" in result) for result in results)
    assert "10 MB" in results[3]["detail"]
    assert len(shop.rows("select 1 from products")) == 2


async def test_fifty_files_are_taken_and_no_more(shop: Shop) -> None:
    photo = small_photo()
    answer = await batch(shop, *((f"{number}.jpg", photo) for number in range(50)))
    assert [result["status"] for result in answer.json()["results"]] == [202] * 50
    assert len(shop.rows("select 1 from products")) == 50
    answer = await batch(shop, *((f"{number}.jpg", photo) for number in range(51)))
    assert (answer.status_code, "50" in answer.json()["detail"]) == (400, True)
    assert len(shop.rows("select 1 from products")) == 50


async def test_a_repeat_with_the_same_key_is_the_same_products(shop: Shop) -> None:
    named = [("a.jpg", small_photo(1)), ("b.jpg", small_photo(2))]
    headers = {"Idempotency-Key": "k" * 200}
    first = await batch(shop, *named, headers=headers)
    assert (await batch(shop, *named, headers=headers)).json() == first.json()
    assert len(shop.rows("select 1 from products")) == 2
    other = await batch(shop, named[0], ("b.jpg", small_photo(3)), headers=headers)
    assert [result["status"] for result in other.json()["results"]] == [202, 409]


async def test_what_is_wrong_with_the_whole_request_is_refused_as_a_whole(shop: Shop) -> None:
    photo = ("a.jpg", small_photo())
    assert (await shop.api.post("/process/batch", data={"title": "Ring"})).status_code == 422
    assert (await batch(shop, photo, data={"recipe": "hologram"})).status_code == 422
    assert (await batch(shop, photo, headers={"X-API-Key": "wrong"})).status_code == 401
    announced = {"Content-Length": str(600_000_000), "Content-Type": "multipart/form-data; boundary=b"}
    assert (await shop.api.post("/process/batch", content=b"--b--", headers=announced)).status_code == 413
    assert shop.rows("select 1 from products") == []
