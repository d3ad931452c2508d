"""What is put around an adapter: its provider's gate, repeats, a name of its own. Each has the adapter's interface."""

from __future__ import annotations

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from domain import CallProgress, ImageAnswer, ImageModel, ImageRequest, RecoversBy, TaskId
from errors import ProviderPausedError, RateLimitError, RetryableError, TaskNotCreatedError
from limits import RetryBudget
from provider_gate import Permit, ProviderGate

FIRST_PAUSE_S = 1.0  # at most, before the second attempt; the bound doubles with each one
LONGEST_PAUSE_S = 30.0  # a provider that asks for more is not waited for in a worker's slot: the run is put off


class ModelWrapper:
    """Changes nothing; those below change what they name."""

    def __init__(self, inner: ImageModel) -> None:
        self._inner = inner

    @property
    def provider(self) -> str:
        return self._inner.provider

    @property
    def model(self) -> str:
        return self._inner.model

    @property
    def recovers_by(self) -> RecoversBy:
        return self._inner.recovers_by

    @property
    def deadline_s(self) -> float:
        return self._inner.deadline_s

    def price_micros(self, request: ImageRequest) -> int:
        return self._inner.price_micros(request)

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        return await self._inner.generate(request, progress)

    async def resume(self, task_id: TaskId) -> ImageAnswer:
        return await self._inner.resume(task_id)


class NamedAfterSandbox(ModelWrapper):
    """Told apart, so that the sandbox's pictures are never taken for a model's once there is a key."""

    @property
    def model(self) -> str:
        return f"{self._inner.model} (sandbox)"


class ThroughGate(ModelWrapper):
    """Sends through the gate that all requests to the provider share.

    The place is taken when the request is ready, before the ledger marks it as sent, and is given back with the
    provider's word: the answer, or the task's id. So neither reading the source nor waiting for a task holds a place,
    and whoever holds one waits for nothing but the provider: it cannot lock up with what is waited for elsewhere.
    """

    def __init__(self, inner: ImageModel, gate: ProviderGate) -> None:
        super().__init__(inner)
        self._gate = gate

    @property
    def deadline_s(self) -> float:
        """With the wait for a place."""
        return self._inner.deadline_s + self._gate.patience_s

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        self._gate.check()
        passage = _Passage(self._gate, progress)
        try:
            answer = await self._inner.generate(request, passage)
        except BaseException as error:
            told = passage.failed(error)
            if told is error:
                raise
            raise told from error
        else:
            passage.succeeded()
            return answer
        finally:
            passage.end()


class _Passage:
    """One request on its way through the gate, told by the adapter where it stands."""

    def __init__(self, gate: ProviderGate, progress: CallProgress) -> None:
        self._gate = gate
        self._progress = progress
        self._permit: Permit | None = None

    async def sending(self) -> None:
        self._permit = await self._gate.enter()
        await self._progress.sending()

    async def accepted(self, task_id: TaskId) -> None:
        self.succeeded()
        await self._progress.accepted(task_id)

    def succeeded(self) -> None:
        if self._permit is not None:
            self._gate.accepted(self._permit)

    def failed(self, error: BaseException) -> BaseException:
        return error if self._permit is None else self._gate.failed(self._permit, error)

    def end(self) -> None:
        if self._permit is not None:
            self._gate.ended(self._permit)


class RepeatWhenNothingWasAccepted(ModelWrapper):
    """Sends again what was certainly not accepted (no connection, 429), and nothing else, ever."""

    def __init__(self, inner: ImageModel, *, budget: RetryBudget, max_attempts: int, patience_s: float) -> None:
        """
        Args:
            budget: Of repeats, shared by all calls to the provider.
            patience_s: After so many seconds no further attempt begins.
        """
        super().__init__(inner)
        self._budget = budget
        self._max_attempts = max_attempts
        self._patience_s = patience_s

    @property
    def deadline_s(self) -> float:
        """Seconds for the attempt that is accepted, after others that were not: those end at once."""
        return self._inner.deadline_s + self._patience_s + LONGEST_PAUSE_S

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        self._budget.earn()
        retrying = AsyncRetrying(
            retry=retry_if_exception(_worth_repeating),
            stop=self._is_over,
            wait=_pause_s,
            reraise=True,
        )
        return await retrying(self._inner.generate, request, progress)

    def _is_over(self, state: RetryCallState) -> bool:
        spent_s = state.seconds_since_start or 0.0
        is_late = state.attempt_number >= self._max_attempts or spent_s >= self._patience_s
        return is_late or not self._budget.spend()


def _worth_repeating(error: BaseException) -> bool:
    if isinstance(error, RateLimitError):
        return (error.retry_after or 0) <= LONGEST_PAUSE_S
    # Once a task was not created its row of the ledger is used: the run is put off and takes a new one. Of a provider
    # that is paused nothing else is to be expected in place.
    return isinstance(error, RetryableError) and not isinstance(error, TaskNotCreatedError | ProviderPausedError)


_jittered_s = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)


def _pause_s(state: RetryCallState) -> float:
    """Seconds: what the provider asked for, else exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        return error.retry_after
    return _jittered_s(state)
