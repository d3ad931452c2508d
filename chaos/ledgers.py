"""The four ledgers of one product, gathered after its run: accepted, billed, stored, history."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from chaos.history import Change, read_history
from chaos.requests import ACCEPT_TASK, BUY_CUTOUT, BUY_SCENE, FETCH_RESULT, UPLOAD_CUTOUT
from chaos.script import Exchange
from packs import load_pack
from sandbox.fingerprint import of_picture

PACK = load_pack("jewellery")
STEP_OF_PROMPT = {scene.prompt: f"variant:{scene.key}" for scene in PACK.scenes}
CUTOUT = "cutout"
_PRODUCT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Connection = psycopg.AsyncConnection[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A line of the provider's invoice: one picture that was charged for."""

    step: str
    cost_micros: int
    task_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledgers:
    """`product` and `run` are rows, `calls` and `events` lists of rows."""

    product_id: str
    product: dict[str, Any]
    run: dict[str, Any]
    calls: list[dict[str, Any]]
    event_numbers: list[int]
    purchases: list[Purchase]
    exchanges: Sequence[Exchange]  #: of this product
    stored: dict[str, str | None]  #: sha256 of what each shown URL gives; None: nothing
    history: list[Change]
    overwritten: list[str]  #: keys of objects whose bytes were replaced
    log: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)  #: what must never be in the log

    @property
    def is_terminal(self) -> bool:
        final = ("completed", "failed", "cancelled")
        return self.product["status"] in final and self.run["status"] == self.product["status"]

    @property
    def is_whole(self) -> bool:
        return self.product["status"] == "completed" and len(self.product["generated_image_urls"]) == len(PACK.scenes)

    def bought(self, step: str) -> list[Purchase]:
        return [purchase for purchase in self.purchases if purchase.step == step]

    def bought_though_safe(self, step: str) -> int:
        """How often a step's picture was bought when one was safe: in Storage, or its task id in the database."""
        tasks = {purchase.task_id for purchase in self.bought(step)}
        is_safe, times = False, 0
        for exchange in self.exchanges:  # in the order in which they came
            if not exchange.done:
                continue
            if buys(exchange, step):
                times += is_safe
            elif step == CUTOUT:
                is_safe |= exchange.kind == UPLOAD_CUTOUT
            else:
                is_safe |= exchange.kind == ACCEPT_TASK and exchange.fields.get("task") in tasks
        return times

    @property
    def served(self) -> set[str]:
        """sha256 of every result picture that the provider's door let through."""
        return {each.answer_sha256 for each in self.exchanges if each.kind == FETCH_RESULT and each.answer_sha256}


async def gather_ledgers(
    connection: Connection,
    http: httpx.AsyncClient,
    *,
    product_id: str,
    photo_fingerprint: str,
    invoice: Sequence[dict[str, Any]],
    exchanges: Sequence[Exchange],
    log: str,
    secrets: tuple[str, ...],
) -> Ledgers:
    async def rows(query: str, parameters: tuple[object, ...] = (product_id,)) -> list[dict[str, Any]]:
        return await (await connection.execute(query, parameters)).fetchall()

    [product] = await rows("select * from products where id = %s")
    [run] = await rows("select * from runs where product_id = %s")
    events = await rows("select seq from events where product_id = %s order by seq")
    overwritten = await rows("select name from chaos.overwrites where name like %s", (f"%{product_id}%",))
    stored = {}
    for url in product["generated_image_urls"]:
        answer = await http.get(url)
        stored[url] = hashlib.sha256(answer.content).hexdigest() if answer.status_code == 200 else None
    history = await read_history(connection)
    calls = await rows("select * from calls where product_id = %s order by created_at")
    ours = {product_id, str(run["id"]), photo_fingerprint, *(str(call["id"]) for call in calls)}
    return Ledgers(
        product_id=product_id,
        product=product,
        run=run,
        calls=calls,
        event_numbers=[event["seq"] for event in events],
        purchases=[
            Purchase(step=step, cost_micros=line["cost_micros"], task_id=line["task_id"])
            for line in invoice
            if line["credits"] and (step := _step_of(line, product_id, photo_fingerprint))
        ],
        exchanges=[exchange for exchange in exchanges if not (owners := _owners(exchange)) or owners & ours],
        stored=stored,
        history=[change for change in history if change.product_id == product_id],
        overwritten=[row["name"] for row in overwritten],
        log=log,
        secrets=secrets,
    )


def _step_of(line: dict[str, Any], product_id: str, photo_fingerprint: str) -> str | None:
    """Which step of the product a line of the invoice is for; None: of another product."""
    if line["provider"] == "reve":
        return CUTOUT if line["picture"] == photo_fingerprint else None
    of_this_product = any(product_id in path for path in line["input_paths"])
    return STEP_OF_PROMPT[line["prompt"]] if of_this_product else None


def _owners(exchange: Exchange) -> set[str]:
    """Ids of what an exchange is about, of the product or of something of it; empty where it does not tell."""
    fields = exchange.fields
    if exchange.kind == BUY_CUTOUT:
        return {of_picture(base64.b64decode(fields.get("reference_image", "")))}
    if exchange.kind == BUY_SCENE:
        return set(_PRODUCT_ID.findall(" ".join(fields.get("imageUrls", []))))
    if "run" in fields or "call" in fields:
        return {str(fields[name]) for name in ("run", "call") if name in fields}
    return set(_PRODUCT_ID.findall(exchange.path)) if exchange.path.startswith("/storage/") else set()


def buys(exchange: Exchange, step: str) -> bool:
    """Whether it is the request for a step's picture."""
    if exchange.kind == BUY_SCENE:
        return STEP_OF_PROMPT.get(str(exchange.fields.get("prompt"))) == step
    return exchange.kind == BUY_CUTOUT and step == CUTOUT
