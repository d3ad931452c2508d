"""Cut the product out, then set it into every scene of a pack; restore and colourise the photograph first if asked."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from domain import Capability
from packs import ScenePack
from recipes.plan import UPLOAD, StepPlan

#: What may be done to the photograph before the cut-out, always in this order.
PREPARATIONS = {Capability.RESTORE: "Restored", Capability.COLOURISE: "Colourised"}


class StorefrontParameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: frozenset[Literal["restore", "colourise"]] = Field(
        default=frozenset(), description="What to do to the photograph before the cut-out."
    )

    @field_serializer("steps")
    def _in_order(self, steps: frozenset[str]) -> list[str]:
        """Parameters are compared as JSON, where a set has no order of its own."""
        return sorted(steps)


def plan_storefront(parameters: StorefrontParameters, pack: ScenePack) -> tuple[StepPlan, ...]:
    steps: list[StepPlan] = []
    latest = UPLOAD
    for capability, label in PREPARATIONS.items():
        if capability.value in parameters.steps:
            steps.append(
                StepPlan(
                    name=capability.value,
                    label=label,
                    capability=capability,
                    prompt=pack.instructions[capability],
                    takes=latest,
                )
            )
            latest = capability.value
    steps.append(
        StepPlan(
            name="cutout",
            label="Cut-out",
            capability=Capability.REMOVE_BACKGROUND,
            prompt=pack.instructions[Capability.REMOVE_BACKGROUND],
            takes=latest,
        )
    )
    steps.extend(
        StepPlan(
            name=f"variant:{scene.key}",
            label=scene.label,
            capability=Capability.GENERATE,
            prompt=scene.prompt,
            takes="cutout",
            scene_key=scene.key,
            scene_mode=scene.mode,
            scene_place=place,
        )
        for place, scene in enumerate(pack.scenes, start=1)
    )
    return tuple(steps)
