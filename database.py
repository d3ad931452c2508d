"""Postgres through Supabase's REST: one method per statement, domain values out. The rules live in `migrations/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from domain import (
    Buy,
    CallId,
    CallTicket,
    ClaimedRun,
    ImageAnswer,
    LeaseToken,
    MaintenanceFound,
    ObjectKey,
    ProductId,
    Recover,
    Refuse,
    Resume,
    Reuse,
    RunId,
    RunSpec,
    SceneChoice,
    Status,
    StoredAt,
    StoredObject,
    TaskId,
    Verdict,
)
from errors import (
    AppError,
    ConfigError,
    NotFoundError,
    ProviderError,
    RetryableError,
)
from supabase_rpc import SupabaseRpc

#: The newest migration that this code needs.
SCHEMA_VERSION = "20261120091000"


class Database(SupabaseRpc):
    """What the API and the worker do to products and runs."""

    # -- the API's side

    async def check_schema(self) -> None:
        """Raise ConfigError when the migrations that this code needs are not applied."""
        try:
            version = await self._rpc("schema_version_v1")
        except ConfigError:
            version = None
        if version is None or version < SCHEMA_VERSION:
            raise ConfigError(
                f"The database is at schema {version or 'none'}, this version needs {SCHEMA_VERSION}: "
                "apply the migrations (`supabase db push`, or `python -m scripts.migrate` with DATABASE_URL)."
            )
        self._schema_was_there = True

    async def recall_answer(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """What an earlier request with the same Idempotency-Key was answered.

        Raises:
            ConflictError: The key was used for a request with another content.
        """
        answer: dict[str, Any] | None = await self._rpc("recall_answer_v1", request=dict(request))
        return answer

    async def create_product(
        self, product: Mapping[str, Any], raw: Mapping[str, Any], run: Mapping[str, Any], request: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Insert a product with its first run, or return what an earlier request with the same key created."""
        answer: dict[str, Any] = await self._rpc(
            "create_product_v1", product=dict(product), raw=dict(raw), run=dict(run), request=dict(request)
        )
        return answer

    async def start_run(
        self,
        product_id: ProductId,
        raw: Mapping[str, Any] | None,
        run: Mapping[str, Any],
        *,
        fresh: bool,
        clear: bool,
        request: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Start another run. `run["only"]` = {"keys", "prompt"} makes these scenes again; else see `plan_run_v1`.

        Raises:
            NotFoundError: There is no such product.
            ConflictError: It is being processed already, or its upload is unknown.
        """
        answer: dict[str, Any] = await self._rpc(
            "start_run_v1",
            product=str(product_id),
            raw=dict(raw) if raw else None,
            run=dict(run),
            fresh=fresh,
            clear=clear,
            request=dict(request),
        )
        return answer

    async def plan_run(
        self, product_id: ProductId, run: Mapping[str, Any], *, new_upload: bool, fresh: bool
    ) -> RunSpec:
        """What `start_run` would start now; raises what it would raise."""
        plan = await self._rpc(
            "plan_run_v1", product=str(product_id), run=dict(run), new_upload=new_upload, fresh=fresh
        )
        return RunSpec(
            recipe=run["recipe"],
            params=run["params"],
            pack=run["pack"],
            generation=plan["generation"],
            base_generation=plan["base_generation"],
            only=_scene_choice(plan.get("only")),
        )

    async def raw_of_product(self, product_id: ProductId) -> StoredObject:
        """The upload that a product has now.

        Raises:
            NotFoundError: It is not known.
        """
        rows = await self._select(
            self._client.table("product_private")
            .select(
                "bucket:raw_bucket, key:raw_key, media_type:raw_media_type, sha256:raw_sha256,"
                " width:raw_width, height:raw_height"
            )
            .eq("product_id", str(product_id))
        )
        if not rows:
            raise NotFoundError("The upload of this product is not known here.")
        return _stored_object(rows[0])

    async def finished_steps(self, product_id: ProductId, input_hashes: Sequence[str]) -> Mapping[str, StoredObject]:
        """The finished steps of a product among those with these input hashes."""
        found = await self._rpc("finished_steps_v1", product=str(product_id), input_hashes=list(input_hashes))
        return {input_hash: _stored_object(row) for input_hash, row in found.items()}

    async def latest_run(self, product_id: ProductId) -> dict[str, Any] | None:
        """{"recipe", "params", "pack"} of the product's latest run; None when there was none."""
        runs = self._client.table("runs").select("recipe, params, pack").eq("product_id", str(product_id))
        rows = await self._select(runs.order("run_no", desc=True).limit(1))
        return rows[0] if rows else None

    async def fetch_product(self, product_id: ProductId) -> dict[str, Any]:
        """The product's row, with what it has cost so far.

        Raises:
            NotFoundError: There is no such product.
        """
        products = self._client.table("products").select("*, product_private(cost_micros)")
        rows = await self._select(products.eq("id", str(product_id)))
        if not rows:
            raise NotFoundError(f"There is no product {product_id}.")
        return rows[0]

    async def cancel_run(self, product_id: ProductId) -> dict[str, Any]:
        """Stop what is being done to a product: {"run_id", "status": "cancelled" | "cancelling"}.

        Raises:
            NotFoundError: There is no such product.
            ConflictError: It is not being processed.
        """
        answer: dict[str, Any] = await self._rpc("cancel_run_v1", product=str(product_id))
        return answer

    async def delete_product(self, product_id: ProductId) -> list[StoredAt]:
        """Delete the product's rows; returns the objects to remove, which the database remembers until they are gone.

        Raises:
            NotFoundError: There is no such product.
        """
        objects = await self._rpc("delete_product_v1", product=str(product_id))
        return [_stored_at(item) for item in objects]

    async def objects_removed(self, objects: Sequence[StoredAt]) -> None:
        """Confirm that objects are gone; those that may still land stay remembered."""
        await self._rpc("objects_removed_v1", objects=[{"bucket": item.bucket, "key": item.key} for item in objects])

    async def queue_health(self) -> dict[str, Any]:
        """{"pending", "processing", "oldest_pending_s", "workers"}."""
        health: dict[str, Any] = await self._rpc("queue_health_v1")
        return health

    # -- the worker's side

    async def maintenance(self, *, raw_bucket: str, raw_folder: str, pending_hours: int) -> MaintenanceFound | None:
        """Take a turn at maintenance; None when another worker just did."""
        settings = {"raw_bucket": raw_bucket, "raw_folder": raw_folder, "pending_hours": pending_hours}
        found = await self._rpc("maintenance_v1", settings=settings)
        if found is None:
            return None
        return MaintenanceFound(
            objects=[_stored_at(item) for item in found.pop("objects")],
            low_budgets=found.pop("warnings"),
            counts=found,
        )

    async def claim_runs(
        self, worker: str, places: int, *, lease_s: int, take_expired: bool, holding: Sequence[RunId]
    ) -> list[ClaimedRun]:
        """Up to `places` runs for this worker. Not repeated: the loop that calls it is its own repetition."""
        rows = await self._call_once(
            "claim_runs_v1",
            worker=worker,
            places=places,
            lease_s=lease_s,
            take_expired=take_expired,
            holding=[str(run_id) for run_id in holding],
        )
        return [_claimed_run(row) for row in rows]

    async def heartbeat(self, worker: str, slots: int, *, lease_s: int, runs: Sequence[ClaimedRun]) -> set[RunId]:
        """Renew the leases on `runs`; the ids of those that are still held. Not repeated: the next beat is."""
        leases = [{"run_id": str(run.run_id), "lease_token": str(run.lease_token)} for run in runs]
        held = await self._call_once("heartbeat_v1", worker=worker, slots=slots, lease_s=lease_s, leases=leases)
        return {RunId(UUID(run_id)) for run_id in held}

    async def free_runs_of(self, worker: str) -> int:
        """How many runs an earlier process of this name had left behind; they can be claimed now."""
        freed: int = await self._rpc("free_runs_of_v1", worker=worker)
        return freed

    async def hand_back(self, run: ClaimedRun, *, delay_s: float = 0, reason: str | None = None) -> None:
        """Give a run back with its checkpoints, now or for later; the attempt is not used up."""
        await self._rpc("hand_back_v1", **_lease(run), delay_s=delay_s, reason=reason)

    async def begin_steps(
        self,
        run: ClaimedRun,
        steps: Sequence[Mapping[str, Any]],
        *,
        unknown_allowed: int,
        limits: Mapping[str, int],
        plan: Mapping[str, Any] | None = None,
    ) -> list[Verdict]:
        """What to do for each of the steps; see `begin_steps_v1`.

        Raises:
            LeaseLostError: Another worker holds the run.
            RunCancelledError: A user wants it stopped; none of the steps was begun.
            BudgetExceededError: A cap is reached; none of the steps was begun.
        """
        verdicts = await self._rpc(
            "begin_steps_v1",
            **_lease(run),
            steps=[dict(step) for step in steps],
            unknown_allowed=unknown_allowed,
            limits=dict(limits),
            plan=dict(plan) if plan else None,
        )
        return [_verdict(verdict) for verdict in verdicts]

    async def earlier_calls(self, run: ClaimedRun, input_hashes: Sequence[str]) -> set[tuple[str, str]]:
        """(input hash, state) of the product's calls that are done or sent, and of this run's that ended unknown."""
        calls = self._client.table("calls").select("input_hash, state, run_id")
        mine = calls.eq("product_id", str(run.product_id)).in_("input_hash", input_hashes)
        rows = await self._select(mine.in_("state", ["done", "sent", "unknown"]))
        return {
            (row["input_hash"], row["state"])
            for row in rows
            if row["state"] != "unknown" or row["run_id"] == str(run.run_id)
        }

    async def send_call(self, run: ClaimedRun, call_id: CallId) -> None:
        """The last gate before a request leaves.

        Raises:
            LeaseLostError: Another worker holds the run, or has sent this call: do not send it.
            RunCancelledError: A user wants the run stopped: do not send it.
        """
        await self._rpc("send_call_v1", **_lease(run), call=str(call_id))

    async def accept_task(self, call_id: CallId, task_id: TaskId) -> None:
        await self._rpc("accept_task_v1", call=str(call_id), task=task_id)

    async def call_succeeded(
        self, call_id: CallId, answer: ImageAnswer, *, sha256: str, latency_s: float | None
    ) -> None:
        """Settle a call whose picture is in Storage."""
        picture = answer.picture
        outcome = {
            "state": "done",
            "cost_micros": answer.cost_micros,
            "request_id": answer.request_id,
            "latency_s": latency_s,
            "media_type": picture.media_type,
            "sha256": sha256,
            "width": picture.width,
            "height": picture.height,
        }
        await self._rpc("finish_call_v1", call=str(call_id), outcome=outcome)

    async def call_failed(
        self, call_id: CallId, error: ProviderError, *, unknown: bool, latency_s: float | None
    ) -> None:
        """Settle a call that brought no picture; `unknown`: whether it was charged cannot be known."""
        outcome = {
            "state": "unknown" if unknown else "failed",
            "cost_micros": error.cost_micros,
            "request_id": error.request_id,
            "latency_s": latency_s,
            "error_code": error.code,
            "error_message": str(error),
            "repeatable": isinstance(error, RetryableError),
        }
        await self._rpc("finish_call_v1", call=str(call_id), outcome=outcome)

    async def finish_step(
        self,
        run: ClaimedRun,
        step: str,
        *,
        picture: StoredObject | None,
        error: AppError | None,
        shown: Mapping[str, Any],
    ) -> None:
        """Checkpoint a step, with its picture or its error, and show `shown` to the product's watchers."""
        outcome: dict[str, Any] = {"state": "done" if picture else "failed"}
        if picture:
            outcome["object"] = {
                "bucket": picture.bucket,
                "key": picture.key,
                "media_type": picture.media_type,
                "sha256": picture.sha256,
                "width": picture.width,
                "height": picture.height,
            }
        if error:
            outcome |= {"error_code": error.code, "error_message": str(error)}
        await self._rpc("finish_step_v1", **_lease(run), step=step, outcome=outcome, shown=dict(shown))

    async def complete_run(
        self, run: ClaimedRun, *, urls: Sequence[str], variants: Sequence[Mapping[str, Any]], note: str | None
    ) -> Status:
        """End a run with its result: the array, the hero picture, the states and the event in one transaction.

        Returns how it ended: cancelled, and without a result, when a user wanted that meanwhile.
        """
        result = {
            "urls": list(urls),
            "variants": [dict(variant) for variant in variants],
            "manifest": {"urls": list(urls)},
        }
        return Status(
            await self._rpc("complete_run_v1", **_lease(run), outcome="completed", result=result, message=note)
        )

    async def fail_run(
        self,
        run: ClaimedRun,
        *,
        code: str,
        message: str,
        shown_message: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Status:
        """End a run without a result; what the product showed before stays. Returns how it ended, as above.

        `shown_message` is for the product's watchers, where `message` is not for everybody.
        """
        answer = await self._rpc(
            "complete_run_v1",
            **_lease(run),
            outcome="failed",
            code=code,
            message=message,
            shown_message=shown_message,
            detail=dict(detail) if detail else None,
        )
        return Status(answer)

    async def end_cancelled_run(self, run: ClaimedRun) -> None:
        """End a run that a user wanted stopped; its checkpoints stay."""
        await self._rpc("complete_run_v1", **_lease(run), outcome="cancelled")


def _lease(run: ClaimedRun) -> dict[str, str]:
    return {"run": str(run.run_id), "lease": str(run.lease_token)}


def _stored_at(row: Mapping[str, Any]) -> StoredAt:
    return StoredAt(row["bucket"], ObjectKey(row["key"]))


def _stored_object(row: Mapping[str, Any]) -> StoredObject:
    return StoredObject(
        bucket=row["bucket"],
        key=ObjectKey(row["key"]),
        media_type=row["media_type"],
        sha256=row["sha256"],
        width=row["width"],
        height=row["height"],
    )


def _scene_choice(only: Mapping[str, Any] | None) -> SceneChoice | None:
    if only is None:
        return None
    return SceneChoice(keys=frozenset(only["keys"]), prompt=only.get("prompt"), remake=only.get("remake"))


def _claimed_run(row: Mapping[str, Any]) -> ClaimedRun:
    params = dict(row["params"])
    return ClaimedRun(
        run_id=RunId(UUID(row["run_id"])),
        product_id=ProductId(UUID(row["product_id"])),
        run_no=row["run_no"],
        recipe=row["recipe"],
        only=_scene_choice(params.pop("only", None)),
        params=params,
        pack=row["pack"],
        generation=row["generation"],
        base_generation=row["base_generation"],
        attempts=row["attempts"],
        deferrals=row["deferrals"],
        lease_token=LeaseToken(UUID(row["lease_token"])),
        raw=_stored_object(row["raw"]),
        raw_bytes=row["raw"]["bytes"],
    )


def _verdict(row: Mapping[str, Any]) -> Verdict:
    kind = row["verdict"]
    if kind == "reuse":
        return Reuse(_stored_object(row["object"]))
    if kind == "refuse":
        return Refuse(row["error_code"], row["error_message"])
    ticket = CallTicket(call_id=CallId(UUID(row["call_id"])), bucket=row["bucket"], key=ObjectKey(row["object_key"]))
    if kind == "buy":
        return Buy(ticket)
    if kind == "resume":
        return Resume(ticket, TaskId(row["task_id"]))
    if kind == "recover":
        return Recover(ticket)
    raise ValueError(f"begin_steps_v1 gave a verdict unknown to this version: {kind}")
