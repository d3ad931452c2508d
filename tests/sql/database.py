"""The product's SQL functions as a test calls them: one connection with one role, plain values in and out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

LEASE_S = 30
CUTOUT_MICROS = 10_000
SCENE_MICROS = 40_000
SCENES = ("variant:stone", "variant:velvet", "variant:marble", "variant:model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that a test created or claimed."""

    run_id: UUID
    product_id: UUID
    run_no: int = 1
    lease: UUID | None = None  #: None until it is claimed

    @property
    def held(self) -> dict[str, Any]:
        """The arguments with which a worker shows its lease."""
        return {"run": self.run_id, "lease": self.lease}


class Database:
    """One connection that acts as `role`; every statement commits at once unless `connection.transaction()` is open."""

    def __init__(self, dsn: str, role: str = "service_role") -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(query.encode(), parameters or None).fetchall()

    def row(self, query: str, *parameters: object) -> tuple[Any, ...]:
        (row,) = self.rows(query, *parameters)
        return row

    def value(self, query: str, *parameters: object) -> Any:
        """The one column of the one row."""
        (value,) = self.row(query, *parameters)
        return value

    def execute(self, statement: str, *parameters: object) -> int:
        """How many rows it changed."""
        return self.connection.execute(statement.encode(), parameters or None).rowcount

    def call_all(self, function: str, **arguments: object) -> list[Any]:
        """Call a function by named arguments, as PostgREST does; one value for each row that it returns."""
        named = sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in arguments
        )
        statement = sql.SQL("select public.{}({})").format(sql.Identifier(function), named)
        parameters = {name: as_parameter(value) for name, value in arguments.items()}
        return [value for (value,) in self.connection.execute(statement, parameters)]

    def call(self, function: str, **arguments: object) -> Any:
        (value,) = self.call_all(function, **arguments)
        return value

    # -- the life of a product

    def create_product(
        self,
        *,
        product: Mapping[str, Any] | None = None,
        run: Mapping[str, Any] | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> Run:
        product = {"id": str(uuid4()), "title": "Ring"} | dict(product or {})
        answer = self.call(
            "create_product_v1",
            product=product,
            raw=upload(product["id"]),
            run=what_to_run() | dict(run or {}),
            request=request,
        )
        return _run(answer)

    def start_run(self, product_id: UUID, **arguments: object) -> Run:
        return _run(
            self.call("start_run_v1", **{"product": product_id, "raw": None, "run": what_to_run()} | dict(arguments))
        )

    def claim(self, worker: str = "worker", places: int = 1, **arguments: object) -> list[Run]:
        claimed = self.call_all(
            "claim_runs_v1", **{"worker": worker, "places": places, "lease_s": LEASE_S} | dict(arguments)
        )
        return [
            Run(
                run_id=UUID(row["run_id"]),
                product_id=UUID(row["product_id"]),
                run_no=row["run_no"],
                lease=UUID(row["lease_token"]),
            )
            for row in claimed
        ]

    def claim_expired(self, worker: str = "worker", places: int = 1) -> list[Run]:
        """Claim with a lease of a second, the shortest: holders have one lease period after a start of Postgres."""
        return self.claim(worker, places, lease_s=1)

    def expire_lease(self, run: Run) -> None:
        """What time would do."""
        self.execute("update public.runs set lease_expires_at = now() - interval '1 second' where id = %s", run.run_id)

    def claimed_product(self, **arguments: Any) -> Run:
        """A new product whose run this worker holds; nothing else must be waiting."""
        self.create_product(**arguments)
        (run,) = self.claim()
        return run

    # -- steps and calls

    def begin(self, run: Run, *names: str, **arguments: object) -> list[Any]:
        """One verdict for each step; `steps` may be given instead of names."""
        steps = arguments.pop("steps", None) or [wanted_step(run, name) for name in names]
        verdicts = self.call("begin_steps_v1", **run.held, steps=steps, **arguments)
        assert isinstance(verdicts, list)
        return verdicts

    def buy(self, run: Run, name: str, **arguments: object) -> UUID:
        """Begin a step and mark its call as sent; the call's id."""
        (verdict,) = self.begin(run, name, **arguments)
        assert verdict["verdict"] == "buy", verdict
        call = UUID(verdict["call_id"])
        self.call("send_call_v1", **run.held, call=call)
        return call

    def finish_call(self, call: UUID, state: str = "done", **more: object) -> None:
        outcome = {"state": state} | (picture() if state == "done" else {}) | more
        self.call("finish_call_v1", call=call, outcome=outcome)

    def finish_step(self, run: Run, name: str, state: str = "done") -> None:
        outcome: dict[str, Any] = {"state": state}
        if state == "done":
            outcome["object"] = {"bucket": "plant-images", "key": f"{run.product_id}/{name}.png"} | picture()
        else:
            outcome |= {"error_code": "refused", "error_message": "No."}
        shown = {"state": state, "url": f"https://shop.test/{name}.png"}
        self.call("finish_step_v1", **run.held, step=name, outcome=outcome, shown=shown)

    def do_step(self, run: Run, name: str) -> None:
        """Buy a step's picture and finish it."""
        self.finish_call(self.buy(run, name))
        self.finish_step(run, name)

    def complete(self, run: Run, *, failed_scenes: Sequence[str] = ()) -> None:
        """End a run with the four scenes' pictures, but for those that failed."""
        self.call("complete_run_v1", **run.held, outcome="completed", result=result_of(run, failed_scenes))

    def fail(self, run: Run, code: str = "refused") -> None:
        self.call("complete_run_v1", **run.held, outcome="failed", code=code, message="It did not work.")

    # -- what is so

    def product(self, product_id: UUID) -> dict[str, Any]:
        row: dict[str, Any] = self.value("select to_jsonb(p) from public.products p where id = %s", product_id)
        return row

    def run(self, run_id: UUID) -> dict[str, Any]:
        row: dict[str, Any] = self.value("select to_jsonb(r) from public.runs r where id = %s", run_id)
        return row

    def call_row(self, call: UUID) -> dict[str, Any]:
        row: dict[str, Any] = self.value("select to_jsonb(c) from public.calls c where id = %s", call)
        return row

    def events(self, product_id: UUID) -> list[tuple[int, str]]:
        rows = self.rows("select seq, type from public.events where product_id = %s order by id", product_id)
        return [(seq, kind) for seq, kind in rows]

    def budget(self) -> tuple[int, int]:
        """(reserved, spent) of the day in micro-dollars."""
        return self.row(
            "select coalesce(sum(reserved_micros), 0)::bigint, coalesce(sum(spent_micros), 0)::bigint"
            " from public.budgets where scope = 'day'"
        )


def as_parameter(value: object) -> object:
    """Lists of ids are arrays, every other list and dictionary is JSON."""
    ids = isinstance(value, list) and value and all(isinstance(item, UUID) for item in value)
    if isinstance(value, dict | list) and not ids:
        return Jsonb(value, dumps=lambda content: json.dumps(content, default=str))
    return value


def upload(product_id: object, revision: int = 1) -> dict[str, Any]:
    return {
        "url": f"https://shop.test/{product_id}-{revision}.jpg",
        "bucket": "plant-images",
        "key": f"products/{product_id}-{revision}.jpg",
        "media_type": "image/jpeg",
        "sha256": sha256(f"upload {product_id} {revision}"),
        "bytes": 1000,
        "width": 800,
        "height": 600,
    }


def what_to_run(**more: object) -> dict[str, Any]:
    return {"recipe": "storefront", "pack": "jewellery", "pack_version": 1, "max_attempts": 3} | more


def wanted_step(run: Run, name: str, generation: int = 0, **more: object) -> dict[str, Any]:
    """A step as the worker asks for it. The hash stands for everything that the result depends on."""
    scene = name.startswith("variant:")
    return {
        "name": name,
        "input_hash": sha256(f"{run.product_id} {name} {generation}"),
        "capability": "generate" if scene else "remove_background",
        "provider": "nanobanana" if scene else "reve",
        "model": "latest",
        "price_micros": SCENE_MICROS if scene else CUTOUT_MICROS,
        "call_id": str(uuid4()),
        "bucket": "plant-images",
        "object_key": f"{run.product_id}/{name}.png",
    } | more


def picture() -> dict[str, Any]:
    return {"media_type": "image/png", "sha256": sha256("a picture"), "width": 800, "height": 600}


def result_of(run: Run, failed_scenes: Sequence[str] = ()) -> dict[str, Any]:
    made = [name for name in SCENES if name not in failed_scenes]
    return {
        "urls": [f"https://shop.test/{run.run_no}/{name}.png" for name in made],
        "variants": [{"key": name, "status": "completed" if name in made else "failed"} for name in SCENES],
        "manifest": {},
    }


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _run(answer: Mapping[str, Any]) -> Run:
    return Run(run_id=UUID(answer["run_id"]), product_id=UUID(answer["product_id"]), run_no=answer["run_no"])
