from __future__ import annotations

import pytest
from pydantic import ValidationError

from domain import Capability
from packs import load_pack
from recipes import RECIPES, UPLOAD
from recipes.storefront import StorefrontParameters, plan_storefront

PACK = load_pack("jewellery")


def test_the_storefront_cuts_out_then_makes_four_scenes_of_the_cutout() -> None:
    cutout, *scenes = plan_storefront(StorefrontParameters(), PACK)
    assert (cutout.name, cutout.takes, cutout.capability) == ("cutout", UPLOAD, Capability.REMOVE_BACKGROUND)
    assert [(scene.name, scene.takes, scene.scene_place) for scene in scenes] == [
        ("variant:stone", "cutout", 1),
        ("variant:velvet", "cutout", 2),
        ("variant:marble", "cutout", 3),
        ("variant:charcoal", "cutout", 4),
    ]


def test_restore_comes_before_colourise_and_both_before_the_cutout() -> None:
    plans = plan_storefront(StorefrontParameters(steps=frozenset({"colourise", "restore"})), PACK)
    assert [(plan.name, plan.takes) for plan in plans[:3]] == [
        ("restore", UPLOAD),
        ("colourise", "restore"),
        ("cutout", "colourise"),
    ]


def test_an_unknown_preparation_is_refused() -> None:
    with pytest.raises(ValidationError):
        RECIPES["storefront"].parameters.model_validate({"steps": ["animate"]})


def test_parameters_survive_the_way_through_the_database() -> None:
    parameters = StorefrontParameters(steps=frozenset({"restore"}))
    assert StorefrontParameters.model_validate(parameters.model_dump(mode="json")) == parameters
