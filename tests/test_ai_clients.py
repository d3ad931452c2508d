"""Which models are built from which settings, and what a worker may claim with them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ai_clients import Models, open_models
from breaker import BreakerMode
from config import Settings
from domain import Capability, ImageModel
from errors import AccountError, ConfigError, RateLimitError
from provider_gate import Intake, ProviderGate
from tests.fake_models import FakeModel
from tests.virtual_time import in_virtual_time

MINIMAL: dict[str, Any] = {"supabase_url": "https://shop.supabase.co", "supabase_service_role_key": "sb_secret_test"}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(MINIMAL | changes)


async def names(**changes: Any) -> dict[str, list[str]]:
    async with httpx.AsyncClient() as http, open_models(settings(**changes), http) as models:
        return {
            capability: [f"{model.provider} {model.model}" for model in of_capability]
            for capability, of_capability in models.by_capability.items()
        }


async def test_without_keys_the_sandbox_stands_in() -> None:
    reve = ["reve latest (sandbox)"]
    assert await names(sandbox_url="http://127.0.0.1:8900") == {
        "remove_background": reve, "generate": ["nanobanana nano-banana (sandbox)"], "colourise": reve, "restore": reve,
    }  # fmt: skip


async def test_a_provider_with_a_key_is_real_and_the_sandbox_does_not_mix_in() -> None:
    found = await names(sandbox_url="http://127.0.0.1:8900", reve_api_key="k")
    assert found["remove_background"] == ["reve latest"]
    assert found["generate"] == ["nanobanana nano-banana (sandbox)"]


async def test_providers_that_cannot_do_it_are_passed_over() -> None:
    order = ["nanobanana", "reve"]
    found = await names(reve_api_key="k", nanobanana_api_key="k", background_removal_providers=order)
    assert found["remove_background"] == ["reve latest"]


async def test_one_gate_serves_all_capabilities_of_a_provider() -> None:
    async with httpx.AsyncClient() as http, open_models(settings(sandbox_url="http://127.0.0.1:1"), http) as models:
        assert {state.provider for state in models.states()} == {"reve", "nanobanana"}
        assert {(state.mode, state.limit, state.waiting) for state in models.states()} == {(BreakerMode.CLOSED, 16, 0)}


async def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^Nothing can remove background: REVE_API_KEY is missing, and"):
        await names()
    with pytest.raises(ConfigError, match="a provider that can generate"):
        await names(sandbox_url="http://127.0.0.1:8900", generate_providers=["reve"])


# -- what may be claimed


def models_of(*cutters: str) -> Models:
    generators: tuple[ImageModel, ...] = (FakeModel(provider="scenes"),)
    gates = {name: ProviderGate(name, start=4, most=4, patience_s=60) for name in (*cutters, "scenes")}
    removers: tuple[ImageModel, ...] = tuple(FakeModel(provider=name) for name in cutters)
    return Models(by_capability={Capability.REMOVE_BACKGROUND: removers, Capability.GENERATE: generators}, gates=gates)


async def pause(gate: ProviderGate) -> None:
    permit = await gate.enter()
    gate.failed(permit, AccountError("no credit", provider=gate.provider))
    gate.ended(permit)


def test_nothing_is_claimed_while_a_capability_cannot_be_had() -> None:
    async def main() -> None:
        models = models_of("a")
        seen = [models.intake]
        await pause(models.gates["a"])
        assert [*seen, models.intake] == [Intake.FREELY, Intake.NONE]

    in_virtual_time(main())


def test_all_is_claimed_while_another_provider_can_stand_in() -> None:
    async def main() -> None:
        models = models_of("a", "b")
        seen = []
        for name in ("a", "b"):
            await pause(models.gates[name])
            seen.append(models.intake)
        assert seen == [Intake.FREELY, Intake.NONE]

    in_virtual_time(main())


@pytest.mark.parametrize(("asked_s", "intake"), [(3, Intake.FREELY), (30, Intake.NONE)])
def test_a_short_wait_is_waited_out_in_the_slots(asked_s: float, intake: Intake) -> None:
    async def main() -> None:
        models = models_of("a")
        permit = await models.gates["a"].enter()
        models.gates["a"].failed(permit, RateLimitError("no", provider="a", retry_after=asked_s))
        assert models.intake is intake

    in_virtual_time(main())
