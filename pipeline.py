"""The engine: carries a claimed run through the steps that its recipe planned, buying each picture once.

The life of a step, top to bottom:

    begin      the database says what is left to do: reuse, buy, resume, recover or refuse
    buy        mark the call as sent, ask the model, store the picture, settle the call
    finish     checkpoint the step and show it to the product's watchers

Steps whose input is ready start together. What can end a run early: an essential step that fails, no scene at all, a
cap on money, a provider that accepts nothing (it is put off), a halt (it is handed back), a user's wish to cancel (what
is under way is kept, then it ends), a lost lease (it is dropped).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, assert_never
from uuid import uuid4

import pictures
from byte_budget import ByteBudget
from config import Settings
from database import Database
from domain import (
    Buy,
    CallId,
    CallTicket,
    Capability,
    ClaimedRun,
    ImageAnswer,
    ImageModel,
    ImageRequest,
    Recover,
    RecoversBy,
    Refuse,
    Resume,
    Reuse,
    Status,
    StoredObject,
    TaskId,
    Verdict,
)
from errors import (
    AccountError,
    AppError,
    BadPictureError,
    BudgetExceededError,
    ChargeUnknownError,
    NotFoundError,
    ProviderError,
    ProviderPausedError,
    RateLimitError,
    RetryableError,
)
from planning import Plan, input_hash, plan_run
from recipes import UPLOAD, StepPlan
from storage import ObjectStore

log = logging.getLogger(__name__)

UNKNOWN_ALLOWED = {"retry_once": 1, "hold": 0}  # calls of a step that may end unknown before the next is refused
DEFERRAL_S = 15.0  # until a run that no provider accepts is tried again; four times as long after each
LONGEST_DEFERRAL_S = 3600.0
LINK_MARGIN_S = 3600  # signed links outlive the task that fetches them by an hour
ANSWER_BYTES_PER_PIXEL = 2.0  # of a PNG cut-out: a generous guess for the memory to set aside
BASE64_AND_DECODED = 2.34  # a picture in JSON is held as base64 (4/3) and as bytes (1)


class HaltedError(AppError):
    """The worker stops; what was bought is stored, the rest is left for the next one."""


class DeferredError(AppError):
    """Providers accept nothing for now."""

    def __init__(self, message: str, *, delay_s: float) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class RunFailedError(AppError):
    """The run cannot give a result; `str(error)` tells the user why."""

    def __init__(self, message: str, *, code: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


class StepRefusedError(AppError):
    """No further call of this step is allowed in this run."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


#: What a step can fail of while the others go on. Everything else concerns the whole run.
STEP_FAILURES = (ProviderError, StepRefusedError, BudgetExceededError, NotFoundError, BadPictureError)


@dataclass(slots=True, kw_only=True)
class _Step:
    """A planned step with all that its result depends on."""

    plan: StepPlan
    model: ImageModel
    source: StoredObject
    input_hash: str
    request: ImageRequest = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredPicture:
    """A picture in Storage as models take it: by bytes or by link."""

    store: ObjectStore
    stored: StoredObject
    link_lifetime_s: int

    async def read(self) -> bytes:
        content = await self.store.download(self.stored.bucket, self.stored.key, sha256=self.stored.sha256)
        fit, _ = await asyncio.to_thread(pictures.upright, content)
        return fit

    async def link(self) -> str:
        return await self.store.signed_url(self.stored.bucket, self.stored.key, lifetime_s=self.link_lifetime_s)


@dataclass(slots=True, kw_only=True)
class _Progress:
    """Writes into the ledger what an adapter tells of its call."""

    database: Database
    run: ClaimedRun
    call_id: CallId
    leavable: asyncio.Event = field(default_factory=asyncio.Event)  #: nothing was sent, or the task is known
    sent_at: float | None = None

    def __post_init__(self) -> None:
        self.leavable.set()

    async def sending(self) -> None:
        self.leavable.clear()
        await self.database.send_call(self.run, self.call_id)
        self.sent_at = time.monotonic()

    async def accepted(self, task_id: TaskId) -> None:
        await self.database.accept_task(self.call_id, task_id)
        self.leavable.set()

    @property
    def latency_s(self) -> float | None:
        return None if self.sent_at is None else time.monotonic() - self.sent_at


class Pipeline:
    """Shared by all runs of a worker; keeps no state of any one of them."""

    def __init__(
        self,
        *,
        database: Database,
        store: ObjectStore,
        models: Mapping[Capability, Sequence[ImageModel]],
        settings: Settings,
        memory: ByteBudget,
    ) -> None:
        self._database = database
        self._store = store
        self._models = models
        self._settings = settings
        self._memory = memory
        self._unknown_allowed = UNKNOWN_ALLOWED[settings.on_unknown_charge]
        self._limits = settings.budget_limits_micros

    async def process(self, run: ClaimedRun, halt: asyncio.Event) -> Status:
        """Carry the run to its end and write its result. `halt` is set when the worker stops or has lost the lease.

        Returns how it ended: completed, or cancelled in the last moment.

        Raises:
            HaltedError, DeferredError: Hand it back, for now or for later.
            LeaseLostError: Another worker has it.
            RunCancelledError: A user wants it stopped; what was under way is stored.
            RunFailedError: It is over, without a result.
        """
        planned = plan_run(run, self._settings)
        plans = planned.to_do
        finished: dict[str, StoredObject] = {UPLOAD: run.raw}
        failures: dict[str, AppError] = {}
        shown_plan: Mapping[str, Any] | None = {plan.name: {"state": "pending", "label": plan.label} for plan in plans}
        deadline = time.monotonic() + self._settings.processing_timeout_seconds

        while ready := [
            plan for plan in plans if plan.takes in finished and plan.name not in finished and plan.name not in failures
        ]:
            _check_may_go_on(halt, deadline)
            offers = [await self._offers(run, plan, finished[plan.takes]) for plan in ready]
            verdicts = await self._begin(run, [first for first, *_ in offers], shown_plan)
            shown_plan = None
            outcomes = await asyncio.gather(
                *(self._carry_out(run, steps, verdict, halt) for steps, verdict in zip(offers, verdicts, strict=True)),
                return_exceptions=True,
            )
            interruption: BaseException | None = None
            for plan, outcome in zip(ready, outcomes, strict=True):
                if isinstance(outcome, StoredObject):
                    finished[plan.name] = outcome
                elif isinstance(outcome, STEP_FAILURES):
                    failures[plan.name] = outcome
                else:
                    interruption = outcome
            if interruption is not None:  # not the step's own fault; by now every picture under way is safe
                raise interruption

        return await self._conclude(run, planned, finished, failures)

    # -- before and after the steps

    async def _offers(self, run: ClaimedRun, plan: StepPlan, source: StoredObject) -> list[_Step]:
        """The step at each provider that can do it, in the order of asking; only at one where it was asked for already.

        A purchase that is done, open, or unknown in this run is never made at another provider as well.
        """
        steps = [self._prepare(run, plan, source, model) for model in self._models[plan.capability]]
        if len(steps) == 1:
            return steps
        earlier = await self._database.earlier_calls(run, [step.input_hash for step in steps])
        for state in ("done", "sent", "unknown"):
            asked = [step for step in steps if (step.input_hash, state) in earlier]
            if asked:
                return asked[:1]
        return steps

    def _prepare(self, run: ClaimedRun, plan: StepPlan, source: StoredObject, model: ImageModel) -> _Step:
        return _Step(
            plan=plan,
            model=model,
            source=source,
            input_hash=input_hash(run, plan, source.sha256, model),
            request=ImageRequest(
                capability=plan.capability,
                prompt=plan.prompt,
                source=_StoredPicture(
                    store=self._store, stored=source, link_lifetime_s=int(model.deadline_s) + LINK_MARGIN_S
                ),
                width=source.width,
                height=source.height,
            ),
        )

    async def _conclude(
        self,
        run: ClaimedRun,
        planned: Plan,
        finished: Mapping[str, StoredObject],
        failures: Mapping[str, AppError],
    ) -> Status:
        """Write the result whole, or say why there is none."""
        passing = [error for error in failures.values() if isinstance(error, RetryableError)]
        locked_out = [error for error in failures.values() if isinstance(error, AccountError)]
        if passing and not locked_out and all(isinstance(error, ProviderPausedError) for error in passing):
            # Not even asked: it waits in the queue with the others, however long that takes.
            raise DeferredError(str(passing[0]), delay_s=0)
        if passing and not locked_out and run.deferrals < self._settings.max_retries:
            raise DeferredError(str(passing[0]), delay_s=_deferral_s(run.deferrals, passing))

        made = [plan for plan in planned.scenes if plan.name in finished]
        for plan in planned.to_do:
            if not plan.is_scene and plan.name in failures:
                error = failures[plan.name]
                raise RunFailedError(f"{plan.label}: {error}", code=error.code, detail=_detail(failures))
        if not made:
            first = next(iter([*locked_out, *failures.values()]))
            raise RunFailedError(
                f"None of the scenes could be made: {first}", code=first.code, detail=_detail(failures)
            )

        urls = [self._public_url(finished[plan.name]) for plan in made]
        # When the run makes only some scenes, the database keeps what the others show.
        variants = [
            {
                "key": plan.scene_key,
                "label": plan.label,
                "mode": plan.scene_mode,
                "status": "completed" if plan.name in finished else "failed" if plan.name in failures else "missing",
                "url": self._public_url(finished[plan.name]) if plan.name in finished else None,
            }
            for plan in planned.scenes
        ]
        missing = [plan.label for plan in planned.scenes if plan.name in failures]
        note = f"Could not be made: {', '.join(missing)}. Process it again to make only these." if missing else None
        return await self._database.complete_run(run, urls=urls, variants=variants, note=note)

    # -- one step

    async def _begin(
        self,
        run: ClaimedRun,
        steps: Sequence[_Step],
        shown_plan: Mapping[str, Any] | None,
        *,
        unknown_allowed: int | None = None,
    ) -> list[Verdict]:
        if unknown_allowed is None:
            unknown_allowed = self._unknown_allowed
        wanted = []
        for step in steps:
            call_id = CallId(uuid4())
            plan = step.plan
            if plan.scene_place is not None:
                bucket = self._settings.processed_bucket_name
                key = self._store.scene_key(run.product_id, plan.scene_place, call_id)
            else:
                bucket = self._settings.raw_bucket_name
                maker = step.model.provider if plan.capability is Capability.REMOVE_BACKGROUND else plan.name
                key = self._store.intermediate_key(run.product_id, maker, call_id)
            wanted.append(
                {
                    "name": plan.name,
                    "input_hash": step.input_hash,
                    "capability": plan.capability,
                    "provider": step.model.provider,
                    "model": step.model.model,
                    "price_micros": step.model.price_micros(step.request),
                    "call_id": str(call_id),
                    "bucket": bucket,
                    "object_key": key,
                }
            )
        return await self._database.begin_steps(
            run, wanted, unknown_allowed=unknown_allowed, limits=self._limits, plan=shown_plan
        )

    async def _carry_out(
        self, run: ClaimedRun, offers: Sequence[_Step], verdict: Verdict, halt: asyncio.Event
    ) -> StoredObject:
        """The step's picture, from the first provider that takes the request, checkpointed and shown."""
        step = offers[0]
        label = step.plan.label
        try:
            picture = await self._obtain_from_first(run, offers, verdict, halt)
        except STEP_FAILURES as error:
            state = "waiting" if isinstance(error, RetryableError) else "failed"
            shown = {"state": state, "label": label, "error": str(error)}
            await self._database.finish_step(run, step.plan.name, picture=None, error=error, shown=shown)
            raise
        shown = {"state": "done", "label": label, "url": self._public_url(picture)}
        await self._database.finish_step(run, step.plan.name, picture=picture, error=None, shown=shown)
        return picture

    async def _obtain_from_first(
        self, run: ClaimedRun, offers: Sequence[_Step], verdict: Verdict, halt: asyncio.Event
    ) -> StoredObject:
        """Go on to the next provider only where the one before has certainly not charged for this step."""
        step, *others = offers
        try:
            return await self._obtain(run, step, verdict, halt)
        except (RetryableError, AccountError) as error:
            if not others or halt.is_set():
                raise
            [verdict] = await self._begin(run, others[:1], None, unknown_allowed=0)
            if isinstance(verdict, Refuse):
                raise
            moved = {"step": step.plan.name, "to": others[0].model.provider, "reason": error.code}
            log.info("step.failed_over", extra={"provider": step.model.provider, **moved})
        return await self._obtain_from_first(run, others, verdict, halt)

    async def _obtain(self, run: ClaimedRun, step: _Step, verdict: Verdict, halt: asyncio.Event) -> StoredObject:
        """Follow the verdict; where a charge stays unknown, ask for the next one."""
        while True:
            match verdict:
                case Reuse(picture):
                    return picture
                case Refuse(code, message):
                    raise StepRefusedError(message, code=code)
                case Recover(ticket):
                    saved = await self._recover(step, ticket)
                    if saved is not None:
                        return saved
                case Buy(ticket) | Resume(ticket):
                    try:
                        return await self._buy(run, step, verdict, halt)
                    except ChargeUnknownError:
                        log.warning("call.charge_unknown", extra={"step": step.plan.name, "call_id": ticket.call_id})
                case _:
                    assert_never(verdict)
            if halt.is_set():
                raise HaltedError("The worker stops.")
            [verdict] = await self._begin(run, [step], None)

    async def _buy(self, run: ClaimedRun, step: _Step, verdict: Buy | Resume, halt: asyncio.Event) -> StoredObject:
        """Send the request (or ask for its task), store the picture, settle the call: in this order."""
        ticket, model = verdict.ticket, step.model
        progress = _Progress(database=self._database, run=run, call_id=ticket.call_id)

        async def answer_of_model() -> ImageAnswer:
            if isinstance(verdict, Buy):
                return await model.generate(step.request, progress)
            return await model.resume(verdict.task_id)

        # While a task is worked on elsewhere, nothing of it is in our memory.
        waits_empty_handed = model.recovers_by is RecoversBy.TASK_ID
        try:
            async with nullcontext() if waits_empty_handed else self._memory.holding(_bytes_of_call(step)):
                answer = await _unless_halted(answer_of_model(), leavable=progress.leavable, halt=halt)
                if not waits_empty_handed:
                    return await self._keep(ticket, answer, progress.latency_s)
            async with self._memory.holding(len(answer.picture.content)):
                return await self._keep(ticket, answer, progress.latency_s)
        except ProviderError as error:
            unknown = isinstance(error, ChargeUnknownError)
            await self._database.call_failed(ticket.call_id, error, unknown=unknown, latency_s=progress.latency_s)
            raise

    async def _keep(self, ticket: CallTicket, answer: ImageAnswer, latency_s: float | None) -> StoredObject:
        """Store a bought picture where its call said, then settle the call. `_recover` finds it after a crash."""
        await self._store.upload(ticket.bucket, ticket.key, answer.picture.content, answer.picture.media_type)
        return await self._settle(ticket, answer, latency_s)

    async def _settle(self, ticket: CallTicket, answer: ImageAnswer, latency_s: float | None) -> StoredObject:
        """Tell the ledger of a picture that lies in Storage."""
        picture = answer.picture
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(picture.content).hexdigest())
        await self._database.call_succeeded(ticket.call_id, answer, sha256=sha256, latency_s=latency_s)
        return StoredObject(
            bucket=ticket.bucket,
            key=ticket.key,
            media_type=picture.media_type,
            sha256=sha256,
            width=picture.width,
            height=picture.height,
        )

    async def _recover(self, step: _Step, ticket: CallTicket) -> StoredObject | None:
        """The picture of a call whose worker died, if it was stored; else the call is settled as unknown."""
        try:
            content = await self._store.download(ticket.bucket, ticket.key)
            picture = await asyncio.to_thread(pictures.check_answer, content)
        except (NotFoundError, BadPictureError):
            lost = ChargeUnknownError("The worker died before the answer was stored.", provider=step.model.provider)
            await self._database.call_failed(ticket.call_id, lost, unknown=True, latency_s=None)
            return None
        return await self._settle(ticket, ImageAnswer(picture=picture, cost_micros=None), None)

    def _public_url(self, picture: StoredObject) -> str:
        return self._store.public_url(picture.bucket, picture.key)


async def _unless_halted(
    work: Coroutine[Any, Any, ImageAnswer], *, leavable: asyncio.Event, halt: asyncio.Event
) -> ImageAnswer:
    """The answer, unless a halt comes before the request is sent, or when its task can be asked for later."""

    async def leave_when_possible() -> None:
        await halt.wait()
        await leavable.wait()
        answer.cancel()  # in the same breath: nothing is sent in between

    answer = asyncio.ensure_future(work)
    leave = asyncio.ensure_future(leave_when_possible())
    try:
        await asyncio.wait({answer})
        if answer.cancelled():
            raise HaltedError("The worker stops.")
        return answer.result()
    finally:
        for task in (answer, leave):
            task.cancel()
        await asyncio.gather(answer, leave, return_exceptions=True)


def _check_may_go_on(halt: asyncio.Event, deadline: float) -> None:
    if halt.is_set():
        raise HaltedError("The worker stops.")
    if time.monotonic() > deadline:
        raise DeferredError("It took longer than PROCESSING_TIMEOUT_SECONDS.", delay_s=DEFERRAL_S)


def _bytes_of_call(step: _Step) -> int:
    """Memory that a synchronous call may take at its height: the picture sent and the picture received."""
    pixels = step.source.width * step.source.height
    return round(BASE64_AND_DECODED * 2 * ANSWER_BYTES_PER_PIXEL * pixels)


def _deferral_s(deferrals: int, errors: Sequence[RetryableError]) -> float:
    """Seconds to wait: ours, or longer when a provider asks for it."""
    asked = [error.retry_after or 0 for error in errors if isinstance(error, RateLimitError)]
    return min(max([DEFERRAL_S * 4.0**deferrals, *asked]), LONGEST_DEFERRAL_S)


def _detail(failures: Mapping[str, AppError]) -> dict[str, Any]:
    return {name: {"code": error.code, "message": str(error)} for name, error in failures.items()}
