"""`begin_steps_v1` and what follows: each verdict, each way a call can end, and that nothing is bought twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.sql.conftest import Connect
from tests.sql.database import CUTOUT_MICROS, SCENES, Database, Run, picture, wanted_step
from tests.sql.outcomes import assert_lease_lost, error_of
from tests.sql.races import overtake

CUTOUT = "cutout"
RETRY_ONCE, HOLD = 1, 0


def verdict_of(database: Database, run: Run, name: str = CUTOUT, **arguments: object) -> dict[str, Any]:
    verdict: dict[str, Any]
    (verdict,) = database.begin(run, name, **arguments)
    return verdict


def restarted(database: Database, run: Run) -> Run:
    """The next run of the same product, claimed, after `run` has failed."""
    database.fail(run)
    database.start_run(run.product_id)
    (next_run,) = database.claim()
    return next_run


def taken_over(database: Database, run: Run) -> Run:
    """The same run, after its worker died and another one took it."""
    database.expire_lease(run)
    (again,) = database.claim_expired("other")
    return again


class TestBuy:
    def test_records_the_call_before_it_is_sent(self, database: Database) -> None:
        run = database.claimed_product()
        step = wanted_step(run, CUTOUT)
        verdict = verdict_of(database, run, steps=[step])
        assert verdict == {
            "verdict": "buy",
            "call_id": step["call_id"],
            "bucket": "plant-images",
            "object_key": step["object_key"],
        }
        call = database.call_row(UUID(step["call_id"]))
        assert (call["state"], call["reserved_micros"], call["run_id"]) == ("intended", CUTOUT_MICROS, str(run.run_id))
        assert database.row("select name, state, reused from public.steps") == (CUTOUT, "started", False)

    def test_repeated_after_a_lost_answer_names_the_same_call(self, database: Database) -> None:
        run = database.claimed_product()
        first, again = verdict_of(database, run), verdict_of(database, run)
        assert first == again
        assert database.budget() == (CUTOUT_MICROS, 0)

    def test_scenes_that_start_together_begin_in_one_call_and_in_order(self, database: Database) -> None:
        run = database.claimed_product()
        database.do_step(run, SCENES[1])
        verdicts = database.begin(run, *SCENES)
        assert [verdict["verdict"] for verdict in verdicts] == ["buy", "reuse", "buy", "buy"]
        assert [verdict.get("object_key") for verdict in verdicts] == [
            f"{run.product_id}/{name}.png" if name != SCENES[1] else None for name in SCENES
        ]

    def test_an_unsent_call_of_a_dead_worker_is_bought_by_the_next_and_not_by_the_dead(
        self, database: Database
    ) -> None:
        run = database.claimed_product()
        call = UUID(verdict_of(database, run)["call_id"])
        next_holder = taken_over(database, run)
        assert verdict_of(database, next_holder)["call_id"] == str(call)
        assert_lease_lost(lambda: database.call("send_call_v1", **run.held, call=call))
        database.call("send_call_v1", **next_holder.held, call=call)
        assert database.value("select count(*) from public.calls") == 1


class TestSend:
    def test_passes_again_under_the_same_lease_because_the_answer_may_have_been_lost(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        sent_at = database.call_row(call)["sent_at"]
        database.call("send_call_v1", **run.held, call=call)
        assert database.call_row(call)["sent_at"] == sent_at

    def test_does_not_pass_under_the_next_lease(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        next_holder = taken_over(database, run)
        verdict_of(database, next_holder)
        assert_lease_lost(lambda: database.call("send_call_v1", **next_holder.held, call=call))

    @pytest.mark.parametrize("state", ["done", "failed", "unknown"])
    def test_does_not_pass_once_the_call_has_ended(self, database: Database, state: str) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        database.finish_call(call, state)
        assert_lease_lost(lambda: database.call("send_call_v1", **run.held, call=call))

    def test_does_not_pass_once_the_task_was_accepted(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        database.call("accept_task_v1", call=call, task="task-1")
        assert_lease_lost(lambda: database.call("send_call_v1", **run.held, call=call))


class TestReuse:
    def test_a_finished_step_is_reused_by_a_later_run(self, database: Database) -> None:
        run = database.claimed_product()
        database.do_step(run, CUTOUT)
        next_run = restarted(database, run)
        verdict = verdict_of(database, next_run)
        assert verdict["verdict"] == "reuse"
        assert verdict["object"]["key"] == f"{run.product_id}/{CUTOUT}.png"
        assert database.row("select state, reused from public.steps where run_id = %s", next_run.run_id) == (
            "started",
            True,
        )
        assert database.value("select count(*) from public.calls") == 1

    def test_other_input_is_not_reused(self, database: Database) -> None:
        run = database.claimed_product()
        database.do_step(run, SCENES[0])
        next_run = restarted(database, run)
        steps = [wanted_step(next_run, SCENES[0], generation=1)]
        assert verdict_of(database, next_run, steps=steps)["verdict"] == "buy"

    def test_nothing_is_reused_of_another_product(self, database: Database) -> None:
        run = database.claimed_product()
        database.do_step(run, CUTOUT)
        other = database.claimed_product()
        steps = [wanted_step(other, CUTOUT, input_hash=wanted_step(run, CUTOUT)["input_hash"])]
        assert verdict_of(database, other, steps=steps)["verdict"] == "buy"

    def test_a_call_that_was_answered_but_whose_step_was_not_written_is_adopted(self, database: Database) -> None:
        run = database.claimed_product()
        database.finish_call(database.buy(run, CUTOUT))
        verdict = verdict_of(database, taken_over(database, run))
        assert verdict["object"] == {"bucket": "plant-images", "key": f"{run.product_id}/{CUTOUT}.png"} | picture()

    def test_an_answer_that_came_late_is_reused_although_a_later_call_failed(self, database: Database) -> None:
        run = database.claimed_product()
        late = database.buy(run, CUTOUT)
        database.finish_call(late, "unknown")
        database.finish_call(database.buy(run, CUTOUT), "failed", error_code="refused")
        database.finish_call(late, "done")
        assert verdict_of(database, run)["verdict"] == "reuse"

    def test_a_finished_step_stays_as_it_is_when_it_is_begun_again(self, database: Database) -> None:
        run = database.claimed_product()
        database.do_step(run, CUTOUT)
        before = database.row("select to_jsonb(s) from public.steps s")
        verdict_of(database, run)
        assert database.row("select to_jsonb(s) from public.steps s") == before


class TestCallLeftBehind:
    """A call was sent and its worker is gone."""

    def test_with_a_task_id_it_is_resumed(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        database.call("accept_task_v1", call=call, task="task-1")
        verdict = verdict_of(database, taken_over(database, run))
        assert verdict == {
            "verdict": "resume",
            "task_id": "task-1",
            "call_id": str(call),
            "bucket": "plant-images",
            "object_key": f"{run.product_id}/{CUTOUT}.png",
        }

    def test_without_one_it_is_to_be_recovered(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        verdict = verdict_of(database, taken_over(database, run))
        assert (verdict["verdict"], verdict["call_id"]) == ("recover", str(call))
        assert verdict["object_key"] == f"{run.product_id}/{CUTOUT}.png"

    @pytest.mark.parametrize("task", ["task-1", None])
    def test_it_belongs_to_the_next_run_then(self, database: Database, task: str | None) -> None:
        """So that this run's failures and unknown charges are counted in it."""
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        if task:
            database.call("accept_task_v1", call=call, task=task)
        next_run = restarted(database, run)
        verdict_of(database, next_run)
        assert database.call_row(call)["run_id"] == str(next_run.run_id)


class TestUnknownCharge:
    def unknown(self, database: Database, run: Run, name: str = CUTOUT, **arguments: object) -> None:
        database.finish_call(database.buy(run, name, **arguments), "unknown")

    def test_retry_once_buys_one_more_and_then_refuses(self, database: Database) -> None:
        run = database.claimed_product()
        self.unknown(database, run, unknown_allowed=RETRY_ONCE)
        self.unknown(database, run, unknown_allowed=RETRY_ONCE)
        verdict = verdict_of(database, run, unknown_allowed=RETRY_ONCE)
        assert (verdict["verdict"], verdict["error_code"]) == ("refuse", "charge_unknown")

    def test_hold_refuses_at_once(self, database: Database) -> None:
        run = database.claimed_product()
        self.unknown(database, run)
        verdict = verdict_of(database, run, unknown_allowed=HOLD)
        assert (verdict["verdict"], verdict["error_code"]) == ("refuse", "charge_unknown")
        assert "call_id" not in verdict

    def test_another_provider_does_not_get_around_it(self, database: Database) -> None:
        """The hash changes with the provider; the step does not."""
        run = database.claimed_product()
        self.unknown(database, run)
        elsewhere = wanted_step(run, CUTOUT, provider="fal", input_hash=wanted_step(run, CUTOUT, 9)["input_hash"])
        assert verdict_of(database, run, steps=[elsewhere], unknown_allowed=HOLD)["verdict"] == "refuse"

    def test_one_step_does_not_use_up_the_retry_of_another(self, database: Database) -> None:
        run = database.claimed_product()
        self.unknown(database, run, SCENES[0])
        self.unknown(database, run, SCENES[0])
        assert verdict_of(database, run, SCENES[1])["verdict"] == "buy"

    @pytest.mark.parametrize("allowed", [RETRY_ONCE, HOLD])
    def test_a_new_run_is_the_consent_to_pay_again(self, database: Database, allowed: int) -> None:
        run = database.claimed_product()
        self.unknown(database, run)
        next_run = restarted(database, run)
        assert verdict_of(database, next_run, unknown_allowed=allowed)["verdict"] == "buy"

    def test_a_call_that_the_new_run_found_open_needs_a_consent_of_its_own(self, database: Database) -> None:
        """When the user asked for this run nobody knew yet that the charge was unknown."""
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        next_run = restarted(database, run)
        assert verdict_of(database, next_run)["verdict"] == "recover"
        database.finish_call(call, "unknown")
        assert verdict_of(database, next_run, unknown_allowed=HOLD)["verdict"] == "refuse"
        assert verdict_of(database, restarted(database, next_run), unknown_allowed=HOLD)["verdict"] == "buy"


class TestFailedCall:
    def test_is_not_repeated_in_the_same_run(self, database: Database) -> None:
        run = database.claimed_product()
        database.finish_call(database.buy(run, CUTOUT), "failed", error_code="content_refused", error_message="No.")
        assert verdict_of(database, run) == {
            "verdict": "refuse",
            "error_code": "content_refused",
            "error_message": "No.",
        }

    def test_is_repeated_when_nothing_was_accepted(self, database: Database) -> None:
        run = database.claimed_product()
        first = database.buy(run, CUTOUT)
        database.finish_call(first, "failed", repeatable=True)
        assert database.buy(run, CUTOUT) != first

    def test_is_repeated_in_the_next_run(self, database: Database) -> None:
        run = database.claimed_product()
        database.finish_call(database.buy(run, CUTOUT), "failed", error_code="content_refused")
        assert verdict_of(database, restarted(database, run))["verdict"] == "buy"

    def test_of_a_step_lets_it_begin_anew(self, database: Database) -> None:
        run = database.claimed_product()
        database.finish_call(database.buy(run, CUTOUT), "failed", repeatable=True)
        database.finish_step(run, CUTOUT, "failed")
        verdict_of(database, run)
        assert database.row("select state, error_code, finished_at from public.steps") == ("started", None, None)


class TestFinishCall:
    def test_keeps_what_the_provider_said(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        database.finish_call(call, cost_micros=12_345, request_id="req-1", latency_s=1.5)
        row = database.call_row(call)
        assert (row["state"], row["settled_micros"], row["cost_source"]) == ("done", 12_345, "reported")
        assert (row["request_id"], row["latency_s"], row["width"]) == ("req-1", 1.5, 800)
        assert database.value("select cost_micros from public.product_private") == 12_345

    @pytest.mark.parametrize(
        ("state", "estimate"), [("done", CUTOUT_MICROS), ("unknown", CUTOUT_MICROS), ("failed", 0)]
    )
    def test_without_a_reported_cost_it_counts_as_its_estimate_unless_it_failed(
        self, database: Database, state: str, estimate: int
    ) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        database.finish_call(call, state)
        assert database.call_row(call)["cost_source"] == "estimated"
        assert database.budget() == (0, estimate)
        assert database.value("select cost_micros from public.product_private") == estimate

    def test_a_failure_that_was_charged_all_the_same_counts(self, database: Database) -> None:
        run = database.claimed_product()
        database.finish_call(database.buy(run, CUTOUT), "failed", cost_micros=3)
        assert database.budget() == (0, 3)

    @pytest.mark.parametrize(
        ("late", "more", "spent"),
        [("done", {"cost_micros": 3}, 3), ("done", {}, CUTOUT_MICROS), ("failed", {}, 0)],
    )
    def test_a_verdict_that_comes_late_replaces_unknown_and_corrects_the_money(
        self, database: Database, late: str, more: dict[str, object], spent: int
    ) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        database.finish_call(call, "unknown", error_code="charge_unknown")
        assert database.budget() == (0, CUTOUT_MICROS)
        database.finish_call(call, late, **more)
        assert database.budget() == (0, spent)
        assert database.value("select cost_micros from public.product_private") == spent
        row = database.call_row(call)
        assert (row["state"], row["error_code"]) == (late, None)

    @pytest.mark.parametrize("first", ["done", "failed", "unknown"])
    @pytest.mark.parametrize("repeat", ["done", "failed", "unknown"])
    def test_a_fact_stands_and_repeating_it_changes_nothing(self, database: Database, first: str, repeat: str) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        database.finish_call(call, first, cost_micros=5)
        before = (database.call_row(call), database.budget())
        database.finish_call(call, repeat, cost_micros=5)
        if first == "unknown" and repeat != "unknown":
            assert database.call_row(call)["state"] == repeat
        else:
            assert (database.call_row(call), database.budget()) == before

    def test_two_settlements_at_once_count_the_money_once(self, connect: Connect, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        overtake(
            (connect(), lambda one: one.finish_call(call, "unknown")),
            (connect(), lambda other: other.finish_call(call, "done", cost_micros=7)),
        )
        assert database.call_row(call)["state"] == "done"
        assert database.budget() == (0, 7)

    @pytest.mark.parametrize("state", ["sent", "nonsense"])
    def test_refuses_a_state_in_which_a_call_cannot_end(self, database: Database, state: str) -> None:
        run = database.claimed_product()
        call = UUID(verdict_of(database, run)["call_id"])
        error_of(lambda: database.finish_call(call, state))
        assert database.call_row(call)["state"] == "intended"

    def test_refuses_a_picture_without_a_size(self, database: Database) -> None:
        run = database.claimed_product()
        call = database.buy(run, CUTOUT)
        error = error_of(lambda: database.finish_call(call, "done", width=None))
        assert error.diag.constraint_name == "calls_done_has_picture"
        assert database.budget() == (CUTOUT_MICROS, 0)
