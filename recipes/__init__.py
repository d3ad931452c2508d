"""Recipes: what to do with a product, as data. A recipe plans steps; the engine in `pipeline.py` carries them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from packs import ScenePack
from recipes.plan import UPLOAD, StepPlan
from recipes.storefront import StorefrontParameters, plan_storefront

__all__ = ["RECIPES", "UPLOAD", "Recipe", "StepPlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    name: str
    parameters: type[BaseModel]
    plan: Callable[[Any, ScenePack], tuple[StepPlan, ...]]  #: takes an instance of `parameters`


RECIPES = {
    recipe.name: recipe
    for recipe in (Recipe(name="storefront", parameters=StorefrontParameters, plan=plan_storefront),)
}
