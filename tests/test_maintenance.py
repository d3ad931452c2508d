"""What a worker looks after on the real stack, besides its runs."""

from __future__ import annotations

import logging

import pytest

from tests.shop import Shop, small_photo


def raw_objects(shop: Shop) -> set[str]:
    """The uploads in Storage, of this test's products and of none."""
    return {row["name"] for row in shop.rows("select name from storage.objects where name ~ '^products/[0-9a-f-]{36}'")}


def age(shop: Shop, names: set[str]) -> None:
    shop.execute(
        "update storage.objects set created_at = now() - interval '2 hours' where name = any (%s)", list(names)
    )


def due(shop: Shop) -> None:
    """Let the next turn of maintenance be due now."""
    shop.execute("update maintenance set ran_at = '-infinity' where true")


async def test_an_upload_whose_request_failed_half_way_is_removed(shop: Shop) -> None:
    before = raw_objects(shop)
    product_id = await shop.upload(small_photo(1))
    [kept] = raw_objects(shop) - before
    lost_id = await shop.upload(small_photo(2))
    [lost] = raw_objects(shop) - before - {kept}
    shop.execute("delete from products where id = %s", lost_id)
    await shop.work()
    assert {kept, lost} <= raw_objects(shop)  # young: its request may still be under way
    age(shop, {kept, lost})
    due(shop)
    await shop.work()
    assert (kept in raw_objects(shop), lost in raw_objects(shop)) == (True, False)
    assert shop.rows("select 1 from objects_to_remove") == []
    assert (await shop.product(product_id))["status"] == "completed"


async def test_an_earlier_upload_of_a_product_stays_until_the_product_goes(shop: Shop) -> None:
    before = raw_objects(shop)
    product_id = await shop.upload(small_photo(1))
    await shop.work()
    await shop.again(product_id, files={"file": ("b.jpg", small_photo(2))})
    uploads = raw_objects(shop) - before
    assert len(uploads) == 2
    age(shop, uploads)
    due(shop)
    await shop.work()
    assert uploads <= raw_objects(shop)
    await shop.api.delete(f"/product/{product_id}")
    assert not uploads & raw_objects(shop)


async def test_files_of_the_shops_own_are_left_alone(shop: Shop) -> None:
    await shop.work()
    shop.execute(
        "insert into storage.objects (bucket_id, name, created_at) values"
        " ('plant-images', 'products/5cf21c24-0000-4000-8000-000000000000.jpg', now() - interval '1 year'),"
        " ('plant-images', 'products/a-photo.jpg', now() - interval '1 year')"
    )
    due(shop)
    try:
        await shop.work()
        assert len(shop.rows("select 1 from storage.objects where created_at < now() - interval '300 days'")) == 2
        assert shop.rows("select 1 from objects_to_remove") == []
    finally:
        shop.execute(
            "set storage.allow_delete_query = 'true';"
            " delete from storage.objects where created_at < now() - interval '300 days'"
        )


async def test_what_a_crash_left_after_a_deletion_is_removed(shop: Shop) -> None:
    """The API died between the rows and the objects."""
    before = raw_objects(shop)
    product_id = await shop.upload()
    shop.execute("select public.delete_product_v1(%s)", product_id)
    assert len(raw_objects(shop) - before) == 1
    await shop.work()
    assert raw_objects(shop) == before


async def test_a_budget_that_runs_low_is_reported_once(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    await shop.upload()
    await shop.work(daily_budget_usd=0.14, owner_daily_budget_usd=10)
    for _ in range(2):
        due(shop)
        await shop.work(daily_budget_usd=0.14, owner_daily_budget_usd=10)
    told = [record for record in caplog.records if record.getMessage() == "budget.low"]
    assert [vars(record)["scope"] for record in told] == ["day"]
    assert vars(told[0])["limit_usd"] == 0.14
