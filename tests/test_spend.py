"""Money as the shop meets it: caps that hold, what a run would cost, what the days did cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ai_clients import open_models
from domain import Capability, ImageRequest
from tests.sandbox.running import SandboxClient
from tests.shop import Shop, open_shop, small_photo
from tests.stack import RunningStack
from transport import build_http_client

NOBODY = "00000000-0000-4000-8000-000000000000"
TODAY = "select * from budgets where scope = 'day'"


async def dry_run(shop: Shop, path: str, **options: Any) -> dict[str, Any]:
    answer = await shop.api.post(path, params={"dry_run": "true"} | options.pop("params", {}), **options)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def photo_form(seed: int = 0) -> dict[str, Any]:
    return {"files": {"file": ("ring.jpg", small_photo(seed))}}


def everything(shop: Shop) -> list[Any]:
    """All rows and objects, to see that nothing was added."""
    tables = ("products", "product_private", "runs", "steps", "calls", "budgets", "events", "idempotency_keys")
    return [shop.rows(f"select * from {table}") for table in tables] + shop.rows("select count(*) from storage.objects")


class TestCaps:
    @pytest.mark.parametrize("cap", ["daily_budget_usd", "owner_daily_budget_usd", "run_budget_usd"])
    async def test_nothing_is_sent_beyond_it(self, shop: Shop, cap: str) -> None:
        product_id = await shop.upload()
        product = await shop.processed(product_id, **{cap: 0.06})  # enough for the cut-out alone
        assert (product["status"], shop.bought()) == ("failed", {"reve": 1})
        await shop.again(product_id)
        product = await shop.processed(product_id)
        assert (product["status"], shop.bought()) == ("completed", {"nanobanana": 4, "reve": 1})

    async def test_the_shop_reads_the_figures_and_the_visitor_does_not(self, shop: Shop) -> None:
        product_id = await shop.upload()
        product = await shop.processed(product_id, daily_budget_usd=0.06)
        assert product["error_message"] == "The budget of the day is used up; it is renewed at 0:00 UTC."
        [run] = (await shop.api.get(f"/product/{product_id}/runs")).json()["runs"]
        assert run["error_code"] == "budget_exceeded"
        assert "of $0.06 is spent or reserved" in run["error_message"]
        assert "renewed at 0:00 UTC" in run["error_message"]
        assert [event["data"] for event in shop.rows("select data from events where type = 'run.failed'")] == [
            {"run_no": 1, "error_code": "budget_exceeded", "error_message": product["error_message"]}
        ]

    async def test_many_runs_at_once_stay_below_it(self, shop: Shop) -> None:
        for number in range(12):
            await shop.upload(small_photo(number))
        await shop.work(daily_budget_usd=0.5, worker_concurrency=12)
        [day] = shop.rows(TODAY)
        assert day["reserved_micros"] == 0
        assert 0 < day["spent_micros"] <= 500_000
        statuses = {row["status"] for row in shop.rows("select status from products")}
        assert "failed" in statuses


class TestDryRun:
    async def test_a_new_product_is_priced_and_nothing_is_stored(self, shop: Shop) -> None:
        before = everything(shop)
        estimate = await dry_run(shop, "/process", **photo_form(), data={"steps": "restore"})
        assert everything(shop) == before
        assert [(step["step"], step["provider"], step["reused"]) for step in estimate["steps"]] == [
            ("restore", "reve", False), ("cutout", "reve", False), ("variant:stone", "nanobanana", False),
            ("variant:velvet", "nanobanana", False), ("variant:marble", "nanobanana", False),
            ("variant:charcoal", "nanobanana", False),
        ]  # fmt: skip
        assert estimate["total_usd"] == pytest.approx(sum(step["price_usd"] for step in estimate["steps"]))
        assert all(step["price_usd"] > 0 for step in estimate["steps"])
        assert shop.bought() == {}

    async def test_prices_are_those_that_are_reserved(self, shop: Shop) -> None:
        estimate = await dry_run(shop, "/process", **photo_form())
        await shop.processed(await shop.upload())
        reserved = {row["step_name"]: row["reserved_micros"] for row in shop.rows("select * from calls")}
        assert {step["step"]: round(step["price_usd"] * 1e6) for step in estimate["steps"]} == reserved
        async with build_http_client() as http, open_models(shop.settings, http) as models:
            model = models.by_capability[Capability.REMOVE_BACKGROUND][0]
            request = ImageRequest(
                capability=Capability.REMOVE_BACKGROUND, prompt="", source=None, width=320, height=240
            )
            assert reserved["cutout"] == model.price_micros(request)

    async def test_after_a_whole_result_the_cutout_is_reused(self, shop: Shop) -> None:
        product_id = await shop.upload()
        await shop.processed(product_id)
        before = everything(shop)
        estimate = await dry_run(shop, f"/process/{product_id}")
        assert everything(shop) == before
        assert [step["reused"] for step in estimate["steps"]] == [True, False, False, False, False]
        assert [step["price_usd"] for step in estimate["steps"]] == [0, 0.02, 0.02, 0.02, 0.02]
        fresh = await dry_run(shop, f"/process/{product_id}", params={"fresh": "true"})
        assert not any(step["reused"] for step in fresh["steps"])

    async def test_what_is_missing_alone_is_priced(self, shop: Shop) -> None:
        shop.sandbox.rule({"name": "policy_refusal"}, prompt_contains="velvet", operation="generate", times=1)
        product_id = await shop.upload()
        await shop.processed(product_id)
        estimate = await dry_run(shop, f"/process/{product_id}")
        assert [(step["step"], step["reused"]) for step in estimate["steps"]] == [
            ("cutout", True), ("variant:velvet", False),
        ]  # fmt: skip

    async def test_after_a_failure_what_is_finished_is_reused(self, shop: Shop) -> None:
        product_id = await shop.upload()
        await shop.processed(product_id, daily_budget_usd=0.06)
        estimate = await dry_run(shop, f"/process/{product_id}")
        assert [step["reused"] for step in estimate["steps"]] == [True, False, False, False, False]

    async def test_one_scene_again_costs_one_scene(self, shop: Shop) -> None:
        product_id = await shop.upload()
        await shop.processed(product_id)
        estimate = await dry_run(shop, f"/process/{product_id}/variants/stone")
        assert [(step["step"], step["price_usd"]) for step in estimate["steps"]] == [
            ("cutout", 0), ("variant:stone", 0.02),
        ]  # fmt: skip
        assert estimate["total_usd"] == 0.02

    async def test_a_new_photograph_is_priced_by_its_own_size(self, shop: Shop) -> None:
        product_id = await shop.upload()
        await shop.processed(product_id)
        large = {"file": ("b.jpg", small_photo(2, size=(3000, 2000)))}
        before = everything(shop)
        estimate = await dry_run(shop, f"/process/{product_id}", files=large)
        assert everything(shop) == before
        again = await dry_run(shop, f"/process/{product_id}", params={"fresh": "true"})
        assert estimate["steps"][0]["price_usd"] > again["steps"][0]["price_usd"]

    async def test_it_tells_what_is_left_of_the_day(
        self, shop: Shop, migrated_stack: RunningStack, shop_sandbox: SandboxClient
    ) -> None:
        await shop.processed(await shop.upload())
        async with open_shop(migrated_stack, shop_sandbox, daily_budget_usd=1) as capped:
            day = (await dry_run(capped, "/process", **photo_form()))["day"]
        [spent] = shop.rows(TODAY)
        assert day["limit_usd"] == 1
        assert day["remaining_usd"] == pytest.approx(1 - spent["spent_micros"] / 1e6)
        assert datetime.fromisoformat(day["resets_at"]) > datetime.now(UTC)

    async def test_it_refuses_what_the_run_would_be_refused(self, shop: Shop) -> None:
        product_id = await shop.upload()
        for path, status in [
            (f"/process/{product_id}", 409), (f"/process/{product_id}/variants/stone", 409),
            (f"/process/{NOBODY}", 404), ("/process", 422),
        ]:  # fmt: skip
            answer = await shop.api.post(path, params={"dry_run": "true"})
            assert (answer.status_code, "detail" in answer.json()) == (status, True), path

    async def test_without_models_it_says_so(
        self, shop: Shop, migrated_stack: RunningStack, shop_sandbox: SandboxClient
    ) -> None:
        async with open_shop(migrated_stack, shop_sandbox, sandbox_url=None) as keyless:
            answer = await keyless.api.post("/process", params={"dry_run": "true"}, **photo_form())
            assert (answer.status_code, "keys" in answer.json()["detail"]) == (503, True)
            assert (await keyless.api.post("/process", **photo_form())).status_code == 202


class TestSpend:
    async def test_today_is_told_by_provider(self, shop: Shop) -> None:
        shop.sandbox.rule({"name": "lost_answer"}, provider="reve", times=1)
        product = await shop.processed(await shop.upload())
        days = (await shop.api.get("/spend")).json()["days"]
        assert len(days) == 7
        today = days[0]
        assert [(each["provider"], each["calls"], each["unknown"]) for each in today["providers"]] == [
            ("nanobanana", 4, 0), ("reve", 2, 1),
        ]  # fmt: skip
        assert today["spent_usd"] == pytest.approx(product["cost_usd"])
        assert (today["calls"], today["unknown"], today["reserved_usd"]) == (6, 1, 0)
        assert (today["limit_usd"], today["remaining_usd"], today["warn"]) == (None, None, False)
        assert all(day["calls"] == 0 for day in days[1:])

    @pytest.mark.parametrize(("limit", "warn"), [(0.2, False), (0.15, True)])
    async def test_it_warns_at_four_fifths(
        self, shop: Shop, migrated_stack: RunningStack, shop_sandbox: SandboxClient, limit: float, warn: bool
    ) -> None:
        await shop.processed(await shop.upload())  # some 12 cents
        changes = {"daily_budget_usd": limit, "owner_daily_budget_usd": limit}
        async with open_shop(migrated_stack, shop_sandbox, **changes) as capped:
            [today] = (await capped.api.get("/spend", params={"days": 1})).json()["days"]
        assert today["spent_usd"] == pytest.approx(0.13, abs=0.01)
        assert (today["limit_usd"], today["warn"]) == (limit, warn)
        assert [(each["owner"], each["limit_usd"], each["warn"]) for each in today["owners"]] == [("shop", limit, warn)]

    async def test_it_is_for_the_shop_alone(self, shop: Shop) -> None:
        assert (await shop.api.get("/spend", headers={"X-API-Key": ""})).status_code == 401
        assert (await shop.api.get("/spend", params={"days": 0})).status_code == 422
