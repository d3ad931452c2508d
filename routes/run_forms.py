"""What to do, as a form says it: checked here, so that a worker never meets a run that it cannot plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from pydantic import ValidationError
from starlette.datastructures import FormData

from config import Settings
from errors import ConfigError
from packs import load_pack
from recipes import RECIPES
from routes.uploads import text_field

DEFAULT_RECIPE = "storefront"
MAX_PRIORITY = 100

_FIELDS = {
    "title": {"type": "string", "maxLength": 500, "default": "Untitled"},
    "jewellery_type": {"type": "string", "maxLength": 200, "description": "ring, necklace ..."},
    "recipe": {"type": "string", "enum": sorted(RECIPES), "default": DEFAULT_RECIPE},
    "steps": {"type": "string", "description": "What to do before the cut-out: restore, colourise, or both."},
    "pack": {"type": "string", "description": "A scene pack; the shop's default otherwise."},
    "priority": {"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY, "default": 0},
}


def form_schema(*, file_required: bool) -> dict[str, Any]:
    """The form for the API's page: the body is read by hand, so that a refusal does not wait for it."""
    file = {"type": "string", "format": "binary", "description": "JPEG, PNG or WebP"}
    schema = {"type": "object", "properties": {"file": file, **_FIELDS}, "required": ["file"] if file_required else []}
    return {"requestBody": {"required": file_required, "content": {"multipart/form-data": {"schema": schema}}}}


def run_as_before(earlier_run: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    """What to do, as the product's latest run did it; as the shop does by default where that is not known any more."""
    earlier = earlier_run or {}
    recipe = RECIPES.get(earlier.get("recipe", DEFAULT_RECIPE))
    params = {name: value for name, value in earlier.get("params", {}).items() if name != "only"}
    if recipe is None:
        recipe, params = RECIPES[DEFAULT_RECIPE], {}
    try:
        pack = load_pack(earlier.get("pack", settings.scene_pack))
    except ConfigError:
        pack = load_pack(settings.scene_pack)
    return {
        "recipe": recipe.name,
        "params": recipe.parameters.model_validate(params).model_dump(mode="json"),
        "pack": pack.name,
        "pack_version": pack.version,
        "max_attempts": settings.max_retries + 1,
        "priority": 0,
    }


def run_of_form(form: FormData, settings: Settings, earlier_run: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The run that a form asks for; what it leaves out is as in the earlier run."""
    run = run_as_before(earlier_run, settings) | {"priority": _priority_of(form)}
    if recipe_name := text_field(form, "recipe", longest=50):
        if recipe_name not in RECIPES:
            raise HTTPException(422, f"recipe: there are only these: {', '.join(sorted(RECIPES))}.")
        run["recipe"] = recipe_name
    if pack_name := text_field(form, "pack", longest=50):
        try:
            pack = load_pack(pack_name)
        except ConfigError as error:
            raise HTTPException(422, f"pack: {error}") from None
        run |= {"pack": pack.name, "pack_version": pack.version}
    if "steps" in form:
        steps = [step.strip() for step in (text_field(form, "steps", longest=200) or "").split(",") if step.strip()]
        try:
            parameters = RECIPES[run["recipe"]].parameters.model_validate({"steps": steps})
        except ValidationError as error:
            raise HTTPException(422, f"steps: {error.errors()[0]['msg']}") from None
        run["params"] = parameters.model_dump(mode="json")
    return run


def _priority_of(form: FormData) -> int:
    text = text_field(form, "priority", longest=10) or "0"
    try:
        priority = int(text)
    except ValueError:
        raise HTTPException(422, "priority: must be a whole number.") from None
    if abs(priority) > MAX_PRIORITY:
        raise HTTPException(422, f"priority: must lie between -{MAX_PRIORITY} and {MAX_PRIORITY}.")
    return priority
