"""The engine with everything it meets: rows, pictures and the sandbox's invoice tell what it did."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from database import Database
from domain import ClaimedRun
from errors import StoreUnavailableError
from packs import load_pack
from pipeline import Pipeline
from tests.shop import Shop, small_photo
from worker import run_worker

LABELS = ["Stone — Classic", "Velvet — Boutique", "Marble — Editorial", "Charcoal — Dramatic"]
#: Keeps every state of a product's row that a watcher is told of.
WATCH = """
create table public.seen (n bigint generated always as identity, status text, urls int, done int);
create function public.keep_seen() returns trigger language plpgsql security definer as $$ begin
  insert into public.seen (status, urls, done) values
    (new.status, jsonb_array_length(new.generated_image_urls), (new.progress ->> 'done')::int);
  return new;
end $$;
create trigger keep_seen after update on public.products for each row execute function public.keep_seen();
"""
NOTHING_SHOWN: list[str] = []
ONLY_VELVET = {"prompt_contains": "velvet", "operation": "generate"}


def calls(shop: Shop) -> list[tuple[str, str]]:
    """The ledger: (step, state), in the order of their making."""
    rows = shop.rows("select step_name, state from calls order by created_at, step_name")
    return [(row["step_name"], row["state"]) for row in rows]


async def test_one_photograph_becomes_a_cutout_and_four_scenes(shop: Shop) -> None:
    """JW-12, JW-22 ... JW-27, JW-35 ... JW-38, JW-43, JW-44."""
    product_id = await shop.upload(title="Ring", jewellery_type="ring")
    product = await shop.processed(product_id)

    assert product["status"] == "completed"
    urls = product["generated_image_urls"]
    for place, url in enumerate(urls, start=1):
        assert f"/plant-images/products/processed/{product_id}_v{place}-" in url
        assert url.endswith(".png")
        assert shop.fetch(url).startswith(b"\x89PNG")
    assert product["image_url"] == urls[0]
    assert [(variant["label"], variant["status"], variant["url"]) for variant in product["variants"]] == [
        (label, "completed", url) for label, url in zip(LABELS, urls, strict=True)
    ]
    cutout_url = product["progress"]["steps"]["cutout"]["url"]
    assert f"/plant-images/products/temp/reve_{product_id}-" in cutout_url
    assert shop.fetch(product["raw_image_url"]) == small_photo()
    assert shop.bought() == {"nanobanana": 4, "reve": 1}
    assert product["cost_usd"] > 0


async def test_the_ledger_says_what_each_step_cost(shop: Shop) -> None:
    product = await shop.processed(await shop.upload())
    rows = shop.rows("select * from calls")
    assert sorted((row["step_name"], row["state"]) for row in rows) == [
        ("cutout", "done"), ("variant:charcoal", "done"), ("variant:marble", "done"),
        ("variant:stone", "done"), ("variant:velvet", "done"),
    ]  # fmt: skip
    [cutout] = [row for row in rows if row["step_name"] == "cutout"]
    [billed] = [line for line in shop.sandbox.invoice()["lines"] if line["provider"] == "reve"]
    assert (cutout["settled_micros"], cutout["cost_source"]) == (billed["cost_micros"], "reported")
    assert product["cost_usd"] * 1_000_000 == pytest.approx(sum(row["settled_micros"] for row in rows))
    [budget] = shop.rows("select reserved_micros, spent_micros from budgets where scope = 'day'")
    assert budget == {"reserved_micros": 0, "spent_micros": sum(row["settled_micros"] for row in rows)}


async def test_a_watcher_sees_each_step_and_the_array_only_once(shop: Shop) -> None:
    """JW-13, JW-27, JW-58: at most eight updates a run, and the array never in part."""
    shop.execute(WATCH)
    try:
        await shop.processed(await shop.upload())
        seen = [(row["status"], row["urls"], row["done"]) for row in shop.rows("select * from public.seen order by n")]
    finally:
        shop.execute(
            "drop trigger keep_seen on public.products; drop function public.keep_seen; drop table public.seen"
        )
    assert len(seen) <= 8
    assert [step for step in seen if step[1]] == [("completed", 4, 5)]
    assert [done for _, _, done in seen if done is not None] == [0, 1, 2, 3, 4, 5, 5]


async def test_events_tell_the_story_without_gaps(shop: Shop) -> None:
    await shop.processed(await shop.upload())
    rows = shop.rows("select seq, type from events order by seq")
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["type"] for row in rows] == ["run.queued", "run.started", *["step.done"] * 5, "run.completed"]


async def test_restore_and_colourise_come_first_when_asked(shop: Shop) -> None:
    """MC-06."""
    product = await shop.processed(await shop.upload(steps="restore,colourise"))
    assert product["status"] == "completed"
    lines = shop.sandbox.invoice()["lines"]
    assert [line["work"] for line in lines if line["provider"] == "reve"] == ["restore", "colourise", "cutout"]
    assert {"restore", "colourise", "cutout"} < product["progress"]["steps"].keys()


async def test_own_prompts_replace_the_packs(shop: Shop) -> None:
    """JW-33, JW-49."""
    await shop.upload()
    await shop.work(nanobanana_variant_prompt_2="On green silk.", reve_prompt="Cut it out, please.")
    prompts = {line["prompt"] for line in shop.sandbox.invoice()["lines"] if line["prompt"]}
    scenes = load_pack("jewellery").scenes
    assert prompts == {"Cut it out, please.", scenes[0].prompt, "On green silk.", scenes[2].prompt, scenes[3].prompt}


# -- what fails


async def test_one_failed_scene_leaves_three_and_their_labels(shop: Shop) -> None:
    """JW-44, JW-59, X16."""
    shop.sandbox.rule({"name": "policy_refusal"}, **ONLY_VELVET)
    product = await shop.processed(await shop.upload())
    assert product["status"] == "completed"
    assert [url.split("_v")[1][0] for url in product["generated_image_urls"]] == ["1", "3", "4"]
    assert [(v["label"], v["status"]) for v in product["variants"]] == [
        (LABELS[0], "completed"), (LABELS[1], "failed"), (LABELS[2], "completed"), (LABELS[3], "completed"),
    ]  # fmt: skip
    assert "Velvet — Boutique" in product["error_message"]
    assert product["progress"]["steps"]["variant:velvet"]["state"] == "failed"


async def test_after_a_partial_result_only_the_missing_scene_is_bought(shop: Shop) -> None:
    shop.sandbox.rule({"name": "policy_refusal"}, **ONLY_VELVET, times=1)
    product_id = await shop.upload()
    before = await shop.processed(product_id)
    shop.sandbox.delete("/_sandbox/invoice")
    assert (await shop.again(product_id)).status_code == 202
    after = await shop.processed(product_id)
    assert shop.bought() == {"nanobanana": 1}
    assert len(after["generated_image_urls"]) == 4
    assert set(before["generated_image_urls"]) < set(after["generated_image_urls"])
    assert (after["run_no"], after["error_message"]) == (2, None)


async def test_the_run_fails_only_when_all_four_scenes_fail(shop: Shop) -> None:
    """JW-60, JW-61."""
    shop.sandbox.rule({"name": "task_failed"}, operation="generate")
    product = await shop.processed(await shop.upload())
    assert product["status"] == "failed"
    assert product["error_message"].startswith("None of the scenes could be made: ")
    assert product["generated_image_urls"] == NOTHING_SHOWN
    assert product["image_url"] == product["raw_image_url"]
    assert shop.rows("select error_code from runs") == [{"error_code": "task_failed"}]


async def test_a_failed_cutout_ends_the_run_and_what_was_shown_stays(shop: Shop) -> None:
    """JW-61: nothing more is bought, and the result columns keep their values."""
    product_id = await shop.upload()
    before = await shop.processed(product_id)
    shop.sandbox.rule({"name": "policy_refusal"}, provider="reve")
    shop.sandbox.delete("/_sandbox/invoice")
    assert (await shop.again(product_id, params={"fresh": "true"})).status_code == 202
    after = await shop.processed(product_id)
    assert after["status"] == "failed"
    assert after["error_message"].startswith("Cut-out: ")
    for column in ("generated_image_urls", "image_url", "variants"):
        assert after[column] == before[column]
    assert shop.bought() == {}


async def test_a_provider_without_credit_fails_with_a_sentence(shop: Shop) -> None:
    shop.sandbox.rule({"name": "out_of_credit"}, provider="reve")
    product = await shop.processed(await shop.upload())
    assert product["status"] == "failed"
    assert shop.rows("select error_code from runs") == [{"error_code": "provider_account"}]
    assert len(product["error_message"]) < 300


async def test_an_upload_that_is_gone_fails_without_a_purchase(shop: Shop) -> None:
    product_id = await shop.upload()
    shop.execute("update product_private set raw_key = 'products/gone.jpg'")
    product = await shop.processed(product_id)
    assert (product["status"], shop.bought()) == ("failed", {})
    assert "not in Storage" in product["error_message"]


# -- paid once


async def test_a_lost_answer_is_repeated_once_and_counted(shop: Shop) -> None:
    shop.sandbox.rule({"name": "lost_answer"}, provider="reve", times=1)
    product = await shop.processed(await shop.upload())
    assert product["status"] == "completed"
    assert shop.bought() == {"nanobanana": 4, "reve": 2}
    assert calls(shop)[:2] == [("cutout", "unknown"), ("cutout", "done")]


async def test_a_second_lost_answer_ends_it(shop: Shop) -> None:
    shop.sandbox.rule({"name": "lost_answer"}, provider="reve")
    product = await shop.processed(await shop.upload())
    assert product["status"] == "failed"
    assert shop.rows("select error_code from runs") == [{"error_code": "charge_unknown"}]
    assert shop.bought() == {"reve": 2}


async def test_hold_asks_before_it_pays_again(shop: Shop) -> None:
    """The next POST is the consent."""
    shop.sandbox.rule({"name": "lost_answer"}, provider="reve", times=1)
    product_id = await shop.upload()
    product = await shop.processed(product_id, on_unknown_charge="hold")
    assert (product["status"], shop.bought()) == ("failed", {"reve": 1})
    assert (await shop.again(product_id)).status_code == 202
    product = await shop.processed(product_id, on_unknown_charge="hold")
    assert (product["status"], shop.bought()) == ("completed", {"nanobanana": 4, "reve": 2})


async def test_a_refusal_to_accept_is_waited_for_in_place(shop: Shop) -> None:
    shop.sandbox.rule({"name": "rate_limit", "retry_after": "0"}, provider="reve", times=2)
    product = await shop.processed(await shop.upload())
    assert (product["status"], shop.bought()) == ("completed", {"nanobanana": 4, "reve": 1})
    assert calls(shop).count(("cutout", "done")) == 1


async def test_a_provider_that_accepts_nothing_puts_the_run_off(shop: Shop) -> None:
    """The attempt is given back, and what is finished is not bought again."""
    shop.sandbox.rule({"name": "rate_limit", "retry_after": "900"}, **ONLY_VELVET, times=1)
    product_id = await shop.upload()
    await shop.work()
    [run] = shop.rows("select status, attempts, deferrals, extract(epoch from run_at - now()) as wait_s from runs")
    assert (run["status"], run["attempts"], run["deferrals"]) == ("pending", 0, 1)
    assert 890 < run["wait_s"] <= 900
    assert (await shop.product(product_id))["generated_image_urls"] == NOTHING_SHOWN
    shop.execute("update runs set run_at = now() where true")
    product = await shop.processed(product_id)
    assert (product["status"], len(product["generated_image_urls"])) == ("completed", 4)
    assert shop.bought() == {"nanobanana": 4, "reve": 1}


async def test_a_run_is_not_put_off_for_ever(shop: Shop) -> None:
    shop.sandbox.rule({"name": "rate_limit", "retry_after": "900"}, **ONLY_VELVET)
    product_id = await shop.upload()
    for _ in range(3):
        await shop.work(max_retries=2)
        shop.execute("update runs set run_at = now() where true")
    product = await shop.product(product_id)
    assert (product["status"], len(product["generated_image_urls"])) == ("completed", 3)


async def test_a_picture_that_was_stored_but_not_settled_is_adopted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies between storing the cut-out and settling its call: the next one finds it, and buys nothing."""

    async def die(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("Supabase does not answer.")

    product_id = await shop.upload()
    with monkeypatch.context() as patched:
        patched.setattr(Database, "call_succeeded", die)
        await shop.work()
    assert (await shop.product(product_id))["status"] == "processing"
    assert (shop.bought(), calls(shop)) == ({"reve": 1}, [("cutout", "sent")])
    product = await shop.processed(product_id)
    assert product["status"] == "completed"
    assert shop.bought() == {"nanobanana": 4, "reve": 1}


async def test_a_result_that_could_not_be_written_is_written_later_at_no_cost(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JW-62."""

    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailableError("Supabase does not answer.")

    product_id = await shop.upload()
    with monkeypatch.context() as patched:
        patched.setattr(Database, "complete_run", fail)
        await shop.work()
    shop.sandbox.delete("/_sandbox/invoice")
    product = await shop.processed(product_id)
    assert (product["status"], len(product["generated_image_urls"])) == ("completed", 4)
    assert shop.bought() == {}


async def test_a_halted_run_leaves_its_task_and_the_next_worker_resumes_it(shop: Shop) -> None:
    """NanoBanana works on by itself: the task is asked for again, not bought again."""
    shop.sandbox.behave(latency={"scene": 2})
    product_id = await shop.upload()
    stop = asyncio.Event()

    async def stop_when_all_are_accepted() -> None:
        while not shop.rows("select 1 from calls where task_id is not null having count(*) = 4"):
            await asyncio.sleep(0.05)
        stop.set()

    await asyncio.gather(run_worker(shop.settings, stop=stop), stop_when_all_are_accepted())
    [run] = shop.rows("select status, attempts from runs")
    assert (run["status"], run["attempts"]) == ("pending", 0)
    assert calls(shop).count(("cutout", "done")) == 1
    product = await shop.processed(product_id)
    assert (product["status"], shop.bought()) == ("completed", {"nanobanana": 4, "reve": 1})


async def test_nothing_is_sent_beyond_the_budget_of_the_day(shop: Shop) -> None:
    product_id = await shop.upload()
    product = await shop.processed(product_id, daily_budget_usd=0.06)  # enough for the cut-out alone
    assert (product["status"], shop.bought()) == ("failed", {"reve": 1})
    assert shop.rows("select error_code from runs") == [{"error_code": "budget_exceeded"}]
    assert (await shop.again(product_id)).status_code == 202
    product = await shop.processed(product_id)
    assert (product["status"], shop.bought()) == ("completed", {"nanobanana": 4, "reve": 1})


# -- processing again


async def test_after_a_whole_result_new_scenes_are_made_of_the_same_cutout(shop: Shop) -> None:
    """JW-14 ... JW-16, MC-11, X17."""
    product_id = await shop.upload()
    before = await shop.processed(product_id)
    answer = await shop.again(product_id)
    assert (answer.status_code, answer.json()["run_no"]) == (202, 2)
    waiting = await shop.product(product_id)
    assert (waiting["status"], waiting["generated_image_urls"]) == ("pending", before["generated_image_urls"])
    after = await shop.processed(product_id)
    assert shop.bought() == {"nanobanana": 8, "reve": 1}
    assert not set(after["generated_image_urls"]) & set(before["generated_image_urls"])
    assert after["run_no"] == 2


async def test_fresh_renews_the_cutout_too(shop: Shop) -> None:
    product_id = await shop.upload()
    await shop.processed(product_id)
    await shop.again(product_id, params={"fresh": "true"})
    await shop.processed(product_id)
    assert shop.bought() == {"nanobanana": 8, "reve": 2}


async def test_a_new_photograph_is_cut_out_anew(shop: Shop) -> None:
    """JW-15."""
    product_id = await shop.upload(small_photo(1))
    before = await shop.processed(product_id)
    answer = await shop.again(product_id, files={"file": ("b.jpg", small_photo(2))})
    assert answer.status_code == 202
    after = await shop.processed(product_id)
    assert after["raw_image_url"] != before["raw_image_url"]
    assert shop.fetch(after["raw_image_url"]) == small_photo(2)
    assert shop.bought()["reve"] == 2


async def test_sandbox_pictures_are_not_taken_for_a_models(shop: Shop) -> None:
    """Once there is a key, everything the sandbox made is bought from the real provider."""
    await shop.processed(await shop.upload())
    assert {row["model"] for row in shop.rows("select model from calls")} == {
        "latest (sandbox)", "nano-banana (sandbox)",
    }  # fmt: skip


async def test_what_a_worker_of_another_version_planned_fails_with_a_sentence(shop: Shop) -> None:
    product_id = await shop.upload()
    shop.execute("update runs set recipe = 'hologram' where true")
    product = await shop.processed(product_id)
    assert product["status"] == "failed"
    assert "hologram" in product["error_message"]


async def test_a_fault_of_ours_fails_the_run_and_not_the_worker(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(self: Pipeline, run: ClaimedRun, halt: asyncio.Event) -> None:
        raise KeyError("a fault")

    product_id = await shop.upload()
    monkeypatch.setattr(Pipeline, "process", crash)
    product = await shop.processed(product_id)
    assert product["status"] == "failed"
    assert "Something went wrong inside Vitrine" in product["error_message"]
    assert "fault" not in product["error_message"]
