"""What a run has to do: its recipe's steps with their words, and the hash by which a finished result is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from config import Settings
from domain import Capability, ImageModel, RunSpec, SceneChoice
from errors import ConfigError
from packs import load_pack
from recipes import RECIPES, StepPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    scenes: tuple[StepPlan, ...]  #: every scene of the pack, in its order
    to_do: tuple[StepPlan, ...]  #: the steps of this run: all of the recipe, or what some scenes need


def plan_run(spec: RunSpec, settings: Settings) -> Plan:
    """The steps of a run, with the operator's own words in place of the pack's.

    Raises:
        ConfigError: This version does not know the recipe, the pack or a scene.
    """
    recipe = RECIPES.get(spec.recipe)
    if recipe is None:
        raise ConfigError(f"This worker does not know the recipe {spec.recipe!r}.")
    instructions = {Capability.REMOVE_BACKGROUND: settings.reve_prompt} if settings.reve_prompt else {}
    pack = load_pack(spec.pack).with_overrides(settings.scene_prompt_overrides, instructions)
    steps = recipe.plan(recipe.parameters.model_validate(spec.params), pack)
    scenes = tuple(step for step in steps if step.is_scene)
    return Plan(scenes=scenes, to_do=steps if spec.only is None else _needed_for(spec.only, steps))


def _needed_for(only: SceneChoice, steps: Sequence[StepPlan]) -> tuple[StepPlan, ...]:
    """The chosen scenes, in the words of the choice, and all steps that lead to them."""
    unknown = only.keys - {step.scene_key for step in steps}
    if unknown:
        raise ConfigError(f"The scene pack has no scene {', '.join(sorted(unknown))}.")
    needed: list[StepPlan] = []
    for step in reversed(steps):  # a step stands behind those that it takes from
        if step.scene_key in only.keys:
            needed.append(replace(step, prompt=only.prompt or step.prompt, remake=only.remake))
        elif any(later.takes == step.name for later in needed):
            needed.append(step)
    return tuple(reversed(needed))


def input_hash(spec: RunSpec, step: StepPlan, source_sha256: str, model: ImageModel) -> str:
    """Of everything that the step's result depends on. Two steps with the same hash are one purchase."""
    depends_on = {
        "input": source_sha256,
        "provider": model.provider,
        "model": model.model,
        "prompt": step.prompt,
        "pack": [spec.pack, load_pack(spec.pack).version],
        "generation": spec.generation if step.is_scene else spec.base_generation,
    }
    if step.remake is not None:
        depends_on["remake"] = step.remake
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
