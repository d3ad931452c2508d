"""Which models the product uses: built from the settings and wrapped. Vendors' words stay in `providers/`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx
from pydantic import SecretStr

from config import ProviderName, Settings
from domain import Capability, ImageModel
from errors import ConfigError
from model_wrappers import NamedAfterSandbox, RepeatWhenNothingWasAccepted, ThroughGate
from provider_gate import Intake, ProviderGate, ProviderState
from providers._download import ResultDownloader
from providers.nanobanana import FIRST_POLL_S, NanoBanana
from providers.reve import Reve

log = logging.getLogger(__name__)

SANDBOX_KEY = SecretStr("sandbox")
SANDBOX_POLL_S = 0.2  # it is near and quick; a vendor is asked less often


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of each capability in the order of preference, and the gates of their providers."""

    by_capability: Mapping[Capability, tuple[ImageModel, ...]]
    gates: Mapping[str, ProviderGate]

    @property
    def intake(self) -> Intake:
        """What a worker may claim. A run whose provider is paused is better off in the queue than in a slot.

        A capability can be had while one of its providers can; runs are assumed to need them all.
        """
        intakes = [
            max((self.gates[model.provider].intake for model in models), default=Intake.NONE)
            for models in self.by_capability.values()
        ]
        return min(intakes, default=Intake.FREELY)

    def states(self) -> list[ProviderState]:
        return [gate.state for gate in self.gates.values()]


@asynccontextmanager
async def open_models(settings: Settings, http: httpx.AsyncClient) -> AsyncIterator[Models]:
    """For each capability the providers of its list that have a key; without any key, the sandbox as the first of them.

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
        gates: dict[str, ProviderGate] = {}
        models = {}
        for capability, order in orders.items():
            names = _those_that_can_act(capability, order, settings)
            for name in names:
                if name not in built:
                    gates[name] = _build_gate(name, settings)
                    built[name] = await _build(name, settings, http, gates[name], stack)
            models[capability] = tuple(built[name] for name in names)
        yield Models(by_capability=models, gates=gates)


def _those_that_can_act(
    capability: Capability, order: tuple[ProviderName, ...], settings: Settings
) -> tuple[ProviderName, ...]:
    serving = {
        "reve": {Capability.REMOVE_BACKGROUND, Capability.COLOURISE, Capability.RESTORE},
        "nanobanana": {Capability.GENERATE},
    }
    able = tuple(name for name in order if capability in serving[name])
    with_key = tuple(name for name in able if _key_of(name, settings))
    if with_key:
        return with_key
    if able and settings.sandbox_url:
        return able[:1]
    variables = " or ".join(f"{name.upper()}_API_KEY" for name in able) or f"a provider that can {capability}"
    raise ConfigError(f"Nothing can {capability.replace('_', ' ')}: {variables} is missing, and so is SANDBOX_URL.")


def _key_of(name: ProviderName, settings: Settings) -> SecretStr | None:
    return {"reve": settings.reve_api_key, "nanobanana": settings.nanobanana_api_key}[name]


def _build_gate(name: ProviderName, settings: Settings) -> ProviderGate:
    return ProviderGate(
        name,
        start=settings.provider_concurrency,
        most=settings.provider_max_concurrency,
        patience_s=settings.provider_wait_seconds,
    )


async def _build(
    name: ProviderName, settings: Settings, http: httpx.AsyncClient, gate: ProviderGate, stack: AsyncExitStack
) -> ImageModel:
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
    named = NamedAfterSandbox(model) if sandbox_url else model
    return RepeatWhenNothingWasAccepted(
        ThroughGate(named, gate), budget=gate.repeats, max_attempts=settings.max_retries + 1, patience_s=gate.patience_s
    )
