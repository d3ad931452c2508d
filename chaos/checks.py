"""The invariants, as pure functions over the ledgers of one product. `docs/reliability.md` lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from chaos.faults import Fault
from chaos.ledgers import CUTOUT, PACK, STEP_OF_PROMPT, Ledgers, buys
from chaos.script import Exchange

#: What never changes again. A failed step may: the same run tries it anew when it was put off.
FINAL = {
    "products": {"completed", "failed", "cancelled"},
    "runs": {"completed", "failed", "cancelled"},
    "steps": {"done"},
}
LONGEST_ERROR = 500  # characters


class Harm(StrEnum):
    LOST = "lost"
    DOUBLE_BILLED = "double-billed"
    ZOMBIE_WRITE = "zombie write"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    harm: Harm
    text: str

    def __str__(self) -> str:
        return f"{self.harm}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the faults that were injected excuse."""

    worker_losses: int = 0  #: how often a worker was killed, or stopped for longer than its lease
    may_fall_short: bool = False  #: not all four pictures need be there
    may_hide_a_charge: bool = (
        False  #: an answer was no picture and said nothing of its cost: such a call counts nothing
    )


def violations_of(ledgers: Ledgers, allowance: Allowance) -> list[Violation]:
    if not ledgers.is_terminal:
        states = f"product {ledgers.product['status']}, run {ledgers.run['status']}"
        return [Violation(harm=Harm.LOST, text=f"not at an end: {states}"), *_billed_once(ledgers, allowance)]
    return [
        *_billed_once(ledgers, allowance),
        *_no_zombie_writes(ledgers),
        *(Violation(harm=Harm.OTHER, text=text) for check in _OTHER_CHECKS for text in check(ledgers, allowance)),
    ]


def _billed_once(ledgers: Ledgers, allowance: Allowance) -> Iterator[Violation]:
    """What is safe is never bought again; what was lost on the way may be, once (ON_UNKNOWN_CHARGE=retry_once).

    A picture whose worker was stopped may become safe after all, long after another one was bought in its place.
    """
    for step in (CUTOUT, *STEP_OF_PROMPT.values()):
        bought = len(ledgers.bought(step))
        bought_though_safe = ledgers.bought_though_safe(step)
        excused = allowance.worker_losses + sum(_spoils_a_purchase(each, step) for each in ledgers.exchanges)
        for _ in range(max(bought_though_safe, bought - 1 - min(excused, 1))):
            text = (
                f"{step} was billed {bought} times, {bought_though_safe} of them though safe; {excused} losses excused"
            )
            yield Violation(harm=Harm.DOUBLE_BILLED, text=text)


def _spoils_a_purchase(exchange: Exchange, step: str) -> bool:
    return isinstance(exchange.deed, Fault) and buys(exchange, step)


def _no_zombie_writes(ledgers: Ledgers) -> Iterator[Violation]:
    for change in ledgers.history:
        if change.is_zombie:
            text = f"{change.table_name} was written under a lease that was lost"
            yield Violation(harm=Harm.ZOMBIE_WRITE, text=text)
        elif change.old_status in FINAL[change.table_name]:
            text = f"{change.table_name} changed after its end: {change.old_status} to {change.new_status}"
            yield Violation(harm=Harm.ZOMBIE_WRITE, text=text)


def _is_whole(ledgers: Ledgers, allowance: Allowance) -> Iterator[str]:
    if not ledgers.is_whole and not allowance.may_fall_short:
        pictures = len(ledgers.product["generated_image_urls"])
        yield f"{ledgers.product['status']} with {pictures} pictures: {ledgers.product['error_message']}"


def _pictures_are_right(ledgers: Ledgers, _: Allowance) -> Iterator[str]:
    """Every URL gives the bytes that the provider served, no URL twice, slot k holds scene k."""
    urls = ledgers.product["generated_image_urls"]
    variants = ledgers.product["variants"] if ledgers.product["status"] == "completed" else []
    if urls != [variant["url"] for variant in variants if variant["status"] == "completed"]:
        yield "the array and the variants disagree"
    if len(set(urls)) < len(urls):
        yield "a URL is there twice"
    if not variants:
        return
    step_of_task = {purchase.task_id: purchase.step for purchase in ledgers.purchases}
    for place, (variant, scene) in enumerate(zip(variants, PACK.scenes, strict=True), start=1):
        step = f"variant:{scene.key}"
        if variant["key"] != scene.key:
            yield f"slot {place} is {variant['key']}, not {scene.key}"
        if variant["url"] is None:
            continue
        made = [call for call in ledgers.calls if variant["url"].endswith(call["object_key"])]
        if len(made) != 1 or made[0]["state"] != "done":
            yield f"slot {place} shows a picture that no finished call made"
            continue
        [call] = made
        if call["step_name"] != step or step_of_task.get(call["task_id"]) != step:
            yield f"slot {place} shows what was bought for {call['step_name']}"
        if ledgers.stored[variant["url"]] != call["content_sha256"]:
            yield f"slot {place}: what lies in Storage is not what the ledger says"
        if call["content_sha256"] not in ledgers.served:
            yield f"slot {place} shows what the provider never served"


def _fails_with_a_reason(ledgers: Ledgers, _: Allowance) -> Iterator[str]:
    message = ledgers.product["error_message"] or ""
    if ledgers.product["status"] == "failed" and not message:
        yield "failed without a reason"
    if ledgers.run["error_code"] == "internal":
        yield "an error that nobody expected ended the run"
    if len(message) > LONGEST_ERROR or any(secret in message for secret in ledgers.secrets):
        yield "the error message is too long, or tells a secret"


def _books_add_up(ledgers: Ledgers, allowance: Allowance) -> Iterator[str]:
    """Nothing is billed that the product's own ledger does not know, and no call is left open."""
    settled = sum(call["settled_micros"] or 0 for call in ledgers.calls)
    billed = sum(purchase.cost_micros for purchase in ledgers.purchases)
    if settled < billed and not allowance.may_hide_a_charge:
        yield f"{billed} micro-dollars were billed, {settled} are in the ledger"
    still_open = [call["state"] for call in ledgers.calls if call["state"] in ("intended", "sent")]
    if still_open:
        yield f"calls were left {still_open}"


def _attempts_within_limit(ledgers: Ledgers, allowance: Allowance) -> Iterator[str]:
    faults = sum(each.deed is not None for each in ledgers.exchanges)
    attempts = ledgers.run["attempts"]
    if attempts > min(ledgers.run["max_attempts"], 1 + allowance.worker_losses + faults):
        yield f"{attempts} attempts"


def _story_is_gapless(ledgers: Ledgers, _: Allowance) -> Iterator[str]:
    if ledgers.event_numbers != list(range(1, len(ledgers.event_numbers) + 1)):
        yield f"its events are numbered {ledgers.event_numbers}"


def _nothing_is_overwritten(ledgers: Ledgers, _: Allowance) -> Iterator[str]:
    if ledgers.overwritten:
        yield f"objects were overwritten: {ledgers.overwritten}"


def _log_is_clean(ledgers: Ledgers, _: Allowance) -> Iterator[str]:
    if any(secret in ledgers.log for secret in ledgers.secrets):
        yield "the log tells a secret"
    if "Traceback" in ledgers.log:
        line = next(line for line in ledgers.log.splitlines() if "Traceback" in line)
        yield f"a traceback in the log: ... {line[-LONGEST_ERROR:]}"


_OTHER_CHECKS: tuple[Callable[[Ledgers, Allowance], Iterator[str]], ...] = (
    _is_whole,
    _pictures_are_right,
    _fails_with_a_reason,
    _books_add_up,
    _attempts_within_limit,
    _story_is_gapless,
    _nothing_is_overwritten,
    _log_is_clean,
)
