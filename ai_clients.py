"""Which models the product uses: built from the settings and wrapped. Vendors' words stay in `providers/`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from config import ProviderName, Settings
from domain import CallProgress, Capability, ImageAnswer, ImageModel, ImageRequest, RecoversBy, TaskId
from errors import ConfigError, RateLimitError, RetryableError, TaskNotCreatedError
from providers._download import ResultDownloader
from providers.nanobanana import FIRST_POLL_S, NanoBanana
from providers.reve import Reve

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0  # at most, before the second attempt; the bound doubles with each one
LONGEST_PAUSE_S = 30.0  # a provider that asks for more is not waited for in a worker's slot: the run is put off
SANDBOX_KEY = SecretStr("sandbox")
SANDBOX_POLL_S = 0.2  # it is near and quick; a vendor is asked less often

Models = Mapping[Capability, ImageModel]


@asynccontextmanager
async def open_models(settings: Settings, http: httpx.AsyncClient) -> AsyncIterator[Models]:
    """For each capability the first provider of its list that can act: one with a key, else the sandbox in its place.

    Raises:
        ConfigError: A capability has no provider that can act.
    """
    orders = {
        Capability.REMOVE_BACKGROUND: settings.background_removal_providers,
        Capability.GENERATE: settings.generate_providers,
        Capability.COLOURISE: settings.colourise_providers,
        Capability.RESTORE: settings.restore_providers,
    }
    async with AsyncExitStack() as stack:
        built: dict[ProviderName, ImageModel] = {}
        models = {}
        for capability, order in orders.items():
            name = _first_that_can_act(capability, order, settings)
            if name not in built:
                built[name] = await _build(name, settings, http, stack)
            models[capability] = built[name]
        yield models


def _first_that_can_act(capability: Capability, order: tuple[ProviderName, ...], settings: Settings) -> ProviderName:
    serving = {
        "reve": {Capability.REMOVE_BACKGROUND, Capability.COLOURISE, Capability.RESTORE},
        "nanobanana": {Capability.GENERATE},
    }
    able = [name for name in order if capability in serving[name]]
    with_key = [name for name in able if _key_of(name, settings)]
    if with_key:
        return with_key[0]
    if able and settings.sandbox_url:
        return able[0]
    variables = " or ".join(f"{name.upper()}_API_KEY" for name in able) or f"a provider that can {capability}"
    raise ConfigError(f"Nothing can {capability.replace('_', ' ')}: {variables} is missing, and so is SANDBOX_URL.")


def _key_of(name: ProviderName, settings: Settings) -> SecretStr | None:
    return {"reve": settings.reve_api_key, "nanobanana": settings.nanobanana_api_key}[name]


async def _build(name: ProviderName, settings: Settings, http: httpx.AsyncClient, stack: AsyncExitStack) -> ImageModel:
    key = _key_of(name, settings)
    sandbox_url = None if key else str(settings.sandbox_url).rstrip("/")
    model: ImageModel
    match name:
        case "reve":
            model = Reve(
                http,
                base_url=sandbox_url or str(settings.reve_base_url).rstrip("/"),
                api_key=key or SANDBOX_KEY,
                version=settings.reve_version,
            )
        case "nanobanana":
            downloader = ResultDownloader(
                provider=name, allowed_hosts=settings.nanobanana_result_hosts, sandbox_url=sandbox_url
            )
            stack.push_async_callback(downloader.aclose)
            model = NanoBanana(
                http,
                base_url=sandbox_url or str(settings.nanobanana_base_url).rstrip("/"),
                api_key=key or SANDBOX_KEY,
                downloader=downloader,
                first_poll_s=SANDBOX_POLL_S if sandbox_url else FIRST_POLL_S,
            )
    log.info("provider.ready", extra={"provider": name, "model": model.model, "sandbox": sandbox_url is not None})
    return RepeatWhenNothingWasAccepted(
        model, max_attempts=settings.max_retries + 1, is_sandbox=sandbox_url is not None
    )


class RepeatWhenNothingWasAccepted:
    """Sends again what was certainly not accepted (no connection, 429), and nothing else, ever."""

    def __init__(self, inner: ImageModel, *, max_attempts: int, is_sandbox: bool) -> None:
        self._inner = inner
        self._max_attempts = max_attempts
        self._is_sandbox = is_sandbox

    @property
    def provider(self) -> str:
        return self._inner.provider

    @property
    def model(self) -> str:
        """Told apart for the sandbox, so that its pictures are never taken for a model's once there is a key."""
        return f"{self._inner.model} (sandbox)" if self._is_sandbox else self._inner.model

    @property
    def recovers_by(self) -> RecoversBy:
        return self._inner.recovers_by

    @property
    def deadline_s(self) -> float:
        """Seconds for one attempt and all pauses; an attempt that was not accepted ends at once."""
        return self._inner.deadline_s + self._max_attempts * LONGEST_PAUSE_S

    def price_micros(self, request: ImageRequest) -> int:
        return self._inner.price_micros(request)

    async def generate(self, request: ImageRequest, progress: CallProgress) -> ImageAnswer:
        retrying = AsyncRetrying(
            retry=retry_if_exception(_worth_waiting_for),
            stop=stop_after_attempt(self._max_attempts),
            wait=_pause_s,
            reraise=True,
        )
        return await retrying(self._inner.generate, request, progress)

    async def resume(self, task_id: TaskId) -> ImageAnswer:
        return await self._inner.resume(task_id)


def _worth_waiting_for(error: BaseException) -> bool:
    if isinstance(error, RateLimitError):
        return (error.retry_after or 0) <= LONGEST_PAUSE_S
    # A task that was not created has used its row of the ledger: the run is put off and takes a new one.
    return isinstance(error, RetryableError) and not isinstance(error, TaskNotCreatedError)


_jittered_s = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)


def _pause_s(state: RetryCallState) -> float:
    """Seconds: what the provider asked for, else exponential with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RateLimitError) and error.retry_after is not None:
        return error.retry_after
    return _jittered_s(state)
