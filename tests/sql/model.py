"""What the SQL functions promise, as plain data: a second opinion that random sequences of calls are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from tests.sql.database import CUTOUT_MICROS, SCENE_MICROS, Run

ACTIVE = ("pending", "processing")
LEGAL_MOVES = {
    ("pending", "processing"),
    ("processing", "pending"),
    ("processing", "completed"),
    ("processing", "failed"),
}

StepKey = tuple[UUID, str, int]  #: product, step, generation: what the input hash stands for


@dataclass(slots=True, kw_only=True)
class ModelCall:
    key: StepKey
    run_id: UUID
    state: str = "intended"
    sent_by: UUID | None = None
    has_task: bool = False
    repeatable: bool = False
    was_unknown: bool = False
    settled: int = 0

    @property
    def price(self) -> int:
        return CUTOUT_MICROS if self.key[1] == "cutout" else SCENE_MICROS


@dataclass(slots=True, kw_only=True)
class ModelRun:
    run_id: UUID
    product_id: UUID
    generation: int
    max_attempts: int
    status: str = "pending"
    attempts: int = 0
    lease: UUID | None = None
    worker: str | None = None
    expired: bool = False

    def held_by(self, lease: UUID | None) -> bool:
        return self.status == "processing" and self.lease == lease


@dataclass(slots=True, kw_only=True)
class ModelProduct:
    generation: int = 0
    status: str = "pending"
    whole: bool = False  #: its latest run ended with every scene


@dataclass(slots=True, kw_only=True)
class Model:
    products: dict[UUID, ModelProduct] = field(default_factory=dict)
    runs: dict[UUID, ModelRun] = field(default_factory=dict)
    calls: dict[UUID, ModelCall] = field(default_factory=dict)  #: in the order in which they were recorded
    finished_steps: set[StepKey] = field(default_factory=set)

    def add_run(self, run: Run, generation: int, max_attempts: int) -> None:
        self.runs[run.run_id] = ModelRun(
            run_id=run.run_id, product_id=run.product_id, generation=generation, max_attempts=max_attempts
        )

    def active_run(self, product_id: UUID) -> ModelRun | None:
        return next((r for r in self.runs.values() if r.product_id == product_id and r.status in ACTIVE), None)

    def key(self, run: ModelRun, step: str) -> StepKey:
        return run.product_id, step, 0 if step == "cutout" else run.generation

    def calls_of(self, key: StepKey) -> list[tuple[UUID, ModelCall]]:
        return [(call_id, call) for call_id, call in self.calls.items() if call.key == key]

    def verdict(self, run: ModelRun, step: str, unknown_allowed: int) -> tuple[str, UUID | None]:
        """What `begin_steps_v1` has to answer, and the earlier call that it has to name."""
        key = self.key(run, step)
        calls = self.calls_of(key)
        if key in self.finished_steps or any(call.state == "done" for _, call in calls):
            return "reuse", None
        if calls:
            call_id, latest = calls[-1]
            if latest.state == "sent":
                return ("resume" if latest.has_task else "recover"), call_id
            if latest.state == "intended":
                return "buy", call_id
            if latest.state == "failed" and latest.run_id == run.run_id and not latest.repeatable:
                return "refuse", None
        unknown = [
            call
            for call in self.calls.values()
            if call.run_id == run.run_id and call.key[1] == step and call.state == "unknown"
        ]
        return ("refuse" if len(unknown) > unknown_allowed else "buy"), None

    def settle(self, call: ModelCall, state: str, *, cost: int | None, repeatable: bool) -> None:
        if call.state in ("done", "failed") or call.state == state:
            return
        call.settled = cost if cost is not None else 0 if state == "failed" else call.price
        call.was_unknown = call.was_unknown or state == "unknown"
        call.state, call.repeatable = state, repeatable

    def close(self, run: ModelRun, status: str) -> None:
        run.status = status
        self.products[run.product_id].status = status
        for call in self.calls.values():
            if call.run_id == run.run_id and call.state == "intended":
                self.settle(call, "failed", cost=0, repeatable=True)

    def claim(self, places: int) -> list[set[UUID]]:
        """Sets aside what has no attempt left; returns groups of runs, each to be taken whole before the next."""
        expired = [run for run in self.runs.values() if run.status == "processing" and run.expired]
        for run in expired:
            if run.attempts >= run.max_attempts:
                self.close(run, "failed")
        again = {run.run_id for run in expired if run.status == "processing"}
        return [again, {run.run_id for run in self.runs.values() if run.status == "pending"}]
