"""Random sequences of calls by workers that die, come back and repeat themselves, held against a model."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.sql.conftest import Connect, empty
from tests.sql.database import SCENES, Database, Run, wanted_step
from tests.sql.model import ACTIVE, LEGAL_MOVES, Model, ModelCall, ModelProduct, ModelRun
from tests.sql.outcomes import LEASE_LOST, RUN_ACTIVE, error_of

STEPS = ("cutout", SCENES[0])
MAX_ATTEMPTS = 3

workers = st.sampled_from(["ada", "bob"])
steps = st.sampled_from(STEPS)
which = st.integers(min_value=0, max_value=1000)  #: one of however many there are
seldom = st.sampled_from([False] * 5 + [True])


class Queue(RuleBasedStateMachine):
    """Rules are what the API, the workers and fate may do; after each the database must be as the model says."""

    database: ClassVar[Database]

    def __init__(self) -> None:
        super().__init__()
        empty(self.database)
        self.model = Model()
        self.claims: list[Run] = []  #: every lease that was ever given, the stale ones too
        self.statuses: dict[UUID, str] = {}

    def pick(self, number: int, stale: bool) -> tuple[Run, ModelRun]:
        """One of the leases that hold, or of all that ever were."""
        held = [claim for claim in self.claims if self.model.runs[claim.run_id].held_by(claim.lease)]
        claims = self.claims if stale or not held else held
        claim = claims[number % len(claims)]
        return claim, self.model.runs[claim.run_id]

    def refused(self, claim: Run, run: ModelRun, function: str, **arguments: object) -> bool:
        """Whether the lease is lost; if so, the function has to say it."""
        if run.held_by(claim.lease):
            return False
        assert error_of(lambda: self.database.call(function, **claim.held, **arguments)).sqlstate == LEASE_LOST
        return True

    # -- the API

    @initialize()
    def begin_with_a_worker_at_work(self) -> None:
        self.create_product()
        self.claim("ada", 1)

    @precondition(lambda self: len(self.model.products) < 2)
    @rule()
    def create_product(self) -> None:
        run = self.database.create_product(run={"max_attempts": MAX_ATTEMPTS})
        self.model.products[run.product_id] = ModelProduct()
        self.model.add_run(run, 0, MAX_ATTEMPTS)

    @precondition(lambda self: self.model.products)
    @rule(number=which)
    def start_run(self, number: int) -> None:
        product_id = list(self.model.products)[number % len(self.model.products)]
        product = self.model.products[product_id]
        if self.model.active_run(product_id):
            assert error_of(lambda: self.database.start_run(product_id)).sqlstate == RUN_ACTIVE
            return
        run = self.database.start_run(product_id)
        product.generation += 1 if product.status == "completed" and product.whole else 0
        product.status = "pending"
        self.model.add_run(run, product.generation, MAX_ATTEMPTS)

    # -- the queue

    @precondition(lambda self: self.model.runs)
    @rule(worker=workers, places=st.integers(min_value=1, max_value=2))
    def claim(self, worker: str, places: int) -> None:
        claimed = self.database.claim_expired(worker, places)
        first, then = self.model.claim(places)
        taken = {run.run_id for run in claimed}
        assert taken <= first | then
        assert len(taken) == len(claimed) == min(places, len(first | then))
        assert len(taken & first) == min(places, len(first))
        for claim in claimed:
            run = self.model.runs[claim.run_id]
            run.status, run.attempts, run.lease, run.worker, run.expired = (
                "processing", run.attempts + 1, claim.lease, worker, False,
            )  # fmt: skip
            self.model.products[claim.product_id].status = "processing"
        self.claims += claimed
        self.beat(claimed)  # a lease of a second is over before a slow machine gets to the next rule

    def beat(self, claims: list[Run]) -> list[UUID]:
        leases = [{"run_id": str(claim.run_id), "lease_token": str(claim.lease)} for claim in claims]
        return self.database.call_all("heartbeat_v1", worker="any", slots=1, lease_s=3600, leases=leases)

    @precondition(lambda self: self.claims)
    @rule(
        number=which,
        stale=seldom,
        what=st.sampled_from(["heartbeat", "worker_dies", "worker_comes_back", "hand_back"]),
    )
    def what_may_befall_a_lease(self, number: int, stale: bool, what: str) -> None:
        claim, run = self.pick(number, stale)
        getattr(self, what)(claim, run)

    def heartbeat(self, claim: Run, run: ModelRun) -> None:
        held = run.held_by(claim.lease)
        assert self.beat([claim]) == ([claim.run_id] if held else [])
        if held:
            run.expired = False

    def worker_dies(self, claim: Run, run: ModelRun) -> None:
        if run.status == "processing":
            self.database.expire_lease(claim)
            run.expired = True

    def worker_comes_back(self, _: Run, run: ModelRun) -> None:
        freed = [
            other for other in self.model.runs.values() if other.held_by(other.lease) and other.worker == run.worker
        ]
        assert self.database.call("free_runs_of_v1", worker=run.worker) == len(freed)
        for other in freed:
            if other.attempts < other.max_attempts:
                other.status = "pending"
            else:
                other.expired = True

    def hand_back(self, claim: Run, run: ModelRun) -> None:
        if not self.refused(claim, run, "hand_back_v1"):
            self.database.call("hand_back_v1", **claim.held)
            run.status, run.attempts, run.lease, run.worker = "pending", run.attempts - 1, None, None

    @precondition(lambda self: self.claims)
    @rule(number=which, stale=seldom, outcome=st.sampled_from(["whole", "partial", "failed"]))
    def complete(self, number: int, stale: bool, outcome: str) -> None:
        claim, run = self.pick(number, stale)
        status = "failed" if outcome == "failed" else "completed"
        repeated = run.lease == claim.lease and run.status == status
        if not repeated and self.refused(claim, run, "complete_run_v1", outcome=status):
            return
        if outcome == "failed":
            self.database.fail(claim)
        else:
            self.database.complete(claim, failed_scenes=SCENES[:1] if outcome == "partial" else ())
        if not repeated:
            self.model.products[run.product_id].whole = outcome == "whole"
            self.model.close(run, status)

    # -- steps and money

    @precondition(lambda self: self.claims)
    @rule(number=which, stale=seldom, step=steps, unknown_allowed=st.sampled_from([0, 1]), dies=seldom)
    def begin(self, number: int, stale: bool, step: str, unknown_allowed: int, dies: bool) -> None:
        """Begin a step and send its call, unless the worker dies in between."""
        claim, run = self.pick(number, stale)
        key = self.model.key(run, step)
        wanted = wanted_step(claim, step, generation=key[2])
        if self.refused(claim, run, "begin_steps_v1", steps=[wanted]):
            return
        expected, earlier = self.model.verdict(run, step, unknown_allowed)
        (answer,) = self.database.begin(claim, steps=[wanted], unknown_allowed=unknown_allowed)
        assert answer["verdict"] == expected
        if expected in ("buy", "resume", "recover"):
            call_id = UUID(answer["call_id"])
            assert call_id == (earlier or UUID(wanted["call_id"]))
            if earlier is None:
                self.model.calls[call_id] = ModelCall(key=key, run_id=run.run_id)
            self.model.calls[call_id].run_id = run.run_id
            if expected == "buy" and not dies:
                self.send(claim, run, call_id)

    def send(self, claim: Run, run: ModelRun, call_id: UUID) -> None:
        call = self.model.calls[call_id]
        again = call.state == "sent" and call.sent_by == claim.lease and not call.has_task
        if not run.held_by(claim.lease) or call.run_id != run.run_id or not (call.state == "intended" or again):
            error = error_of(lambda: self.database.call("send_call_v1", **claim.held, call=call_id))
            assert error.sqlstate == LEASE_LOST
            return
        self.database.call("send_call_v1", **claim.held, call=call_id)
        call.state, call.sent_by = "sent", claim.lease

    @precondition(lambda self: self.claims and self.model.calls)
    @rule(number=which, stale=seldom, call_number=which)
    def send_any(self, number: int, stale: bool, call_number: int) -> None:
        self.send(*self.pick(number, stale), self.pick_call(call_number, settled=True))

    def pick_call(self, number: int, *, settled: bool) -> UUID:
        """One of the calls whose charge is open, or of all."""
        is_open = [call_id for call_id, call in self.model.calls.items() if call.state in ("sent", "unknown")]
        calls = list(self.model.calls) if settled or not is_open else is_open
        return calls[number % len(calls)]

    @precondition(lambda self: any(call.state == "sent" for call in self.model.calls.values()))
    @rule(number=which)
    def accept_task(self, number: int) -> None:
        call_id = self.pick_call(number, settled=False)
        call = self.model.calls[call_id]
        if call.state == "sent":
            self.database.call("accept_task_v1", call=call_id, task="task")
            call.has_task = True

    @precondition(lambda self: self.model.calls)
    @rule(
        number=which,
        settled=seldom,
        state=st.sampled_from(["done", "failed", "unknown"]),
        cost=st.sampled_from([None, 0, 7]),
        repeatable=st.booleans(),
    )
    def finish_call(self, number: int, settled: bool, state: str, cost: int | None, repeatable: bool) -> None:
        call_id = self.pick_call(number, settled=settled)
        call = self.model.calls[call_id]
        if call.state == "intended" and state != "failed":
            return  # what was not sent cannot be answered
        self.database.finish_call(call_id, state, cost_micros=cost, repeatable=repeatable and state == "failed")
        self.model.settle(call, state, cost=cost, repeatable=repeatable and state == "failed")

    @precondition(lambda self: self.claims)
    @rule(number=which, stale=seldom, step=steps)
    def finish_step(self, number: int, stale: bool, step: str) -> None:
        claim, run = self.pick(number, stale)
        if self.refused(claim, run, "finish_step_v1", step=step, outcome={"state": "failed"}, shown={}):
            return
        key = self.model.key(run, step)
        begun = self.database.rows("select from public.steps where run_id = %s and name = %s", run.run_id, step)
        if begun and any(call.state == "done" for _, call in self.model.calls_of(key)):
            self.database.finish_step(claim, step)
            self.model.finished_steps.add(key)

    # -- what must always be so

    @invariant()
    def runs_are_as_the_model_says_and_moved_legally(self) -> None:
        rows = self.database.rows("select id, status, attempts from public.runs")
        assert {run_id: (status, attempts) for run_id, status, attempts in rows} == {
            run.run_id: (run.status, run.attempts) for run in self.model.runs.values()
        }
        for run_id, status, attempts in rows:
            before = self.statuses.get(run_id, status)
            assert before == status or (before, status) in LEGAL_MOVES
            assert 0 <= attempts <= MAX_ATTEMPTS
            self.statuses[run_id] = status

    @invariant()
    def products_follow_their_latest_run(self) -> None:
        rows = self.database.rows("select id, status from public.products")
        assert dict(rows) == {product_id: product.status for product_id, product in self.model.products.items()}
        for product_id in self.model.products:
            active = [run for run in self.model.runs.values() if run.product_id == product_id and run.status in ACTIVE]
            assert len(active) <= 1

    @invariant()
    def nothing_is_paid_twice_but_after_an_unknown_charge(self) -> None:
        for key in {call.key for call in self.model.calls.values()}:
            calls = [call for _, call in self.model.calls_of(key)]
            done = sum(call.state == "done" for call in calls)
            assert done <= 1 + sum(call.was_unknown for call in calls)

    @invariant()
    def money_adds_up(self) -> None:
        calls = self.model.calls.values()
        reserved = sum(call.price for call in calls if call.state in ("intended", "sent"))
        spent = sum(call.settled for call in calls)
        assert self.database.budget() == (reserved, spent)
        assert self.database.value("select coalesce(sum(cost_micros), 0) from public.product_private") == spent

    @invariant()
    def events_have_no_gaps(self) -> None:
        assert (
            self.database.rows(
                "select product_id from public.events group by product_id having max(seq) <> count(*) or min(seq) <> 1"
            )
            == []
        )


def test_random_sequences_keep_every_promise(connect: Connect) -> None:
    Queue.database = connect()
    run_state_machine_as_test(
        Queue,
        settings=settings(
            max_examples=40,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
