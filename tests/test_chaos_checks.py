"""The books of `make chaos` find what they are there to find: sound ones pass, each doctored one is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos.checks import Allowance, Harm, violations_of
from chaos.faults import Fault
from chaos.history import Change
from chaos.ledgers import CUTOUT, PACK, Ledgers, Purchase
from chaos.requests import ACCEPT_TASK, BUY_CUTOUT, BUY_SCENE, FETCH_RESULT, UPLOAD_CUTOUT, kind_of
from chaos.script import Exchange

PRODUCT = "7d444840-9dc0-4d3e-8f50-3b5a2f6f0c11"
KEYS = [scene.key for scene in PACK.scenes]
STEPS = [f"variant:{key}" for key in KEYS]


def call(step: str, place: int) -> dict[str, Any]:
    return {
        "step_name": step,
        "state": "done",
        "task_id": f"task-{step}",
        "object_key": f"processed/{PRODUCT}_v{place}.png",
        "content_sha256": f"sha-{place}",
        "settled_micros": 40,
    }


def url(place: int) -> str:
    return f"http://supabase/processed/{PRODUCT}_v{place}.png"


@pytest.fixture
def sound() -> Ledgers:
    """What a run leaves behind when all goes well."""
    variants = [{"key": key, "status": "completed", "url": url(place)} for place, key in enumerate(KEYS, start=1)]
    return Ledgers(
        product_id=PRODUCT,
        product={
            "status": "completed",
            "generated_image_urls": [variant["url"] for variant in variants],
            "variants": variants,
            "error_message": None,
        },
        run={"status": "completed", "attempts": 1, "max_attempts": 4, "error_code": None},
        calls=[call(CUTOUT, 0), *(call(step, place) for place, step in enumerate(STEPS, start=1))],
        event_numbers=[1, 2, 3],
        purchases=[
            Purchase(step=CUTOUT, cost_micros=40, task_id=None),
            *(Purchase(step=step, cost_micros=40, task_id=f"task-{step}") for step in STEPS),
        ],
        exchanges=[
            Exchange(kind=UPLOAD_CUTOUT, number=1, path="/temp/a.png", status=200),
            *(
                Exchange(kind=ACCEPT_TASK, number=1, path="/rpc", fields={"task": f"task-{step}"}, status=204)
                for step in STEPS
            ),
            *(
                Exchange(kind=FETCH_RESULT, number=place, path="/results/a", status=200, answer_sha256=f"sha-{place}")
                for place in range(1, 5)
            ),
        ],
        stored={url(place): f"sha-{place}" for place in range(1, 5)},
        history=[
            Change(
                table_name="runs",
                product_id=PRODUCT,
                showed_lease=True,
                is_zombie=False,
                old_status=old,
                new_status=new,
            )
            for old, new in (("pending", "processing"), ("processing", "completed"))
        ],
        overwritten=[],
        log='{"event": "run.ended"}',
        secrets=("sb_secret_x",),
    )


def harms(ledgers: Ledgers, allowance: Allowance = Allowance()) -> list[Harm]:  # noqa: B008  frozen
    return [violation.harm for violation in violations_of(ledgers, allowance)]


def test_sound_books_pass(sound: Ledgers) -> None:
    assert violations_of(sound, Allowance()) == []


def test_a_product_that_never_ends_is_lost(sound: Ledgers) -> None:
    sound.run["status"] = "processing"
    assert harms(sound) == [Harm.LOST]


def test_an_end_that_the_product_was_not_told_of_is_lost(sound: Ledgers) -> None:
    sound.product["status"] = "processing"
    assert harms(sound) == [Harm.LOST]


@pytest.mark.parametrize("losses", [0, 5])
def test_a_picture_that_was_safe_is_not_bought_again_whatever_happened(sound: Ledgers, losses: int) -> None:
    again = Exchange(kind=BUY_SCENE, number=9, path="/", fields={"prompt": PACK.scenes[0].prompt}, status=200)
    purchase = Purchase(step=STEPS[0], cost_micros=0, task_id="again")
    books = replace(sound, purchases=[*sound.purchases, purchase], exchanges=[*sound.exchanges, again])
    assert harms(books, Allowance(worker_losses=losses)) == [Harm.DOUBLE_BILLED]


def test_a_picture_that_comes_to_light_after_another_was_bought_for_it_was_lost_all_the_same(sound: Ledgers) -> None:
    """A stopped worker wakes up and stores what it had paid for."""
    bought = [Exchange(kind=BUY_CUTOUT, number=number, path="/", status=200) for number in (1, 2)]
    late = Exchange(kind=UPLOAD_CUTOUT, number=2, path="/temp/b.png", status=200)
    purchase = Purchase(step=CUTOUT, cost_micros=0, task_id=None)
    books = replace(sound, purchases=[*sound.purchases, purchase], exchanges=[*bought, *sound.exchanges, late])
    assert harms(books, Allowance(worker_losses=1)) == []
    assert harms(books) == [Harm.DOUBLE_BILLED]


@pytest.mark.parametrize(("losses", "harm"), [(0, [Harm.DOUBLE_BILLED]), (1, [])])
def test_a_picture_that_was_lost_with_its_worker_may_be_bought_once_more(
    sound: Ledgers, losses: int, harm: list[Harm]
) -> None:
    lost = Purchase(step=CUTOUT, cost_micros=0, task_id=None)
    books = replace(sound, purchases=[*sound.purchases, lost])
    assert harms(books, Allowance(worker_losses=losses)) == harm


def test_a_lost_answer_excuses_only_the_step_that_it_was_for(sound: Ledgers) -> None:
    purchase = Purchase(step=STEPS[1], cost_micros=0, task_id="lost")
    for scene, harm in ((PACK.scenes[1], []), (PACK.scenes[2], [Harm.DOUBLE_BILLED])):
        lost = Exchange(kind=BUY_SCENE, number=1, path="/", fields={"prompt": scene.prompt}, deed=Fault.LOST)
        books = replace(sound, purchases=[*sound.purchases, purchase], exchanges=[*sound.exchanges, lost])
        assert harms(books) == harm


def test_nothing_is_bought_three_times(sound: Ledgers) -> None:
    lost = [Purchase(step=CUTOUT, cost_micros=0, task_id=None)] * 2
    books = replace(sound, purchases=[*sound.purchases, *lost])
    assert harms(books, Allowance(worker_losses=5)) == [Harm.DOUBLE_BILLED]


@pytest.mark.parametrize(
    "change",
    [
        Change(
            table_name="steps",
            product_id=PRODUCT,
            showed_lease=True,
            is_zombie=True,
            old_status="started",
            new_status="done",
        ),
        Change(
            table_name="products",
            product_id=PRODUCT,
            showed_lease=True,
            is_zombie=False,
            old_status="completed",
            new_status="failed",
        ),
    ],
)
def test_a_late_write_is_a_zombies(sound: Ledgers, change: Change) -> None:
    assert harms(replace(sound, history=[*sound.history, change])) == [Harm.ZOMBIE_WRITE]


@pytest.mark.parametrize(
    "doctored",
    [
        {"stored": {url(place): f"sha-{place % 2}" for place in range(1, 5)}},
        {"stored": {url(place): None for place in range(1, 5)}},
        {"event_numbers": [1, 3]},
        {"overwritten": ["a.png"]},
        {"log": "Traceback (most recent call last)"},
        {"log": "sb_secret_x"},
        {"run": {"status": "completed", "attempts": 2, "max_attempts": 4, "error_code": None}},
    ],
)
def test_other_broken_promises_are_found(sound: Ledgers, doctored: dict[str, Any]) -> None:
    found = harms(replace(sound, **doctored))
    assert found
    assert set(found) == {Harm.OTHER}


def test_pictures_in_each_others_place_are_found(sound: Ledgers) -> None:
    first, second, *others = sound.product["variants"]
    swapped = [first | {"url": second["url"]}, second | {"url": first["url"]}, *others]
    urls = [variant["url"] for variant in swapped]
    books = replace(sound, product=sound.product | {"variants": swapped, "generated_image_urls": urls})
    assert set(harms(books)) == {Harm.OTHER}


def test_money_that_the_ledger_does_not_know_is_found(sound: Ledgers) -> None:
    sound.calls[0]["settled_micros"] = 0
    assert harms(sound) == [Harm.OTHER]


def test_a_call_that_is_left_open_is_found(sound: Ledgers) -> None:
    sound.calls.append(call(CUTOUT, 9) | {"state": "sent"})
    assert harms(sound) == [Harm.OTHER]


def test_fewer_pictures_need_an_excuse(sound: Ledgers) -> None:
    sound.product["variants"][3] |= {"status": "failed", "url": None}
    del sound.product["generated_image_urls"][3]
    assert harms(sound) == [Harm.OTHER]
    assert harms(sound, Allowance(may_fall_short=True)) == []


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/rest/v1/rpc/claim_runs_v1", "rpc claim_runs"),
        ("POST", "/storage/v1/object/plant-images/products/processed/a_v1-b.png", "upload scene"),
        ("POST", "/storage/v1/object/plant-images/products/temp/reve_a-b.png", "upload cut-out"),
        ("POST", "/storage/v1/object/sign/plant-images/products/temp/reve_a-b.png", "sign cut-out"),
        ("GET", "/storage/v1/object/plant-images/products/a-b.jpg", "download photograph"),
        ("GET", "/storage/v1/object/plant-images/products/temp/reve_a-b.png", "download cut-out"),
        ("POST", "/api/v1/nanobanana/generate", "buy scene"),
        ("GET", "/something?else=1", "GET /something"),
    ],
)
def test_requests_are_named_by_what_they_are_for(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind
