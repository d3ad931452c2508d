# mypy: disable-error-code="no-any-return"
"""Scenes follow the words of the prompt, and the product's own pixels stay as they are."""

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sandbox.pictures import render_scene
from sandbox.pictures.colour_names import colour_of
from sandbox.pictures.scene.description import Scene, Support
from sandbox.pictures.scene.materials import Material
from sandbox.pictures.scene.placing import place_product
from sandbox.pictures.scene.prompt import read_prompt

Array = npt.NDArray[Any]

STONE = "on dark navy sculpted stone, front-facing and centred, soft light from the upper left"
VELVET = "on a burgundy velvet cushion, 45° front-left, warm golden light from the upper right, bokeh"
MARBLE = "on white Carrara marble, overhead 30° above horizontal, bright diffused daylight"
CHARCOAL = "before a charcoal-black gradient, side profile, hard spotlight from above, amber rim light"


def _scene(prompt: str, picture: bytes | None = None, *, seed: int = 5, side: int = 256) -> Array:
    return np.array(Image.open(io.BytesIO(render_scene(prompt, picture, width=side, height=side, seed=seed)))).astype(
        float
    )


def _gold_ring(*, side: int = 300) -> Array:
    """A ring drawn as RGBA, uint8."""
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., :3] = (212, 168, 60)
    cv2.circle(
        alpha := np.zeros((side, side), np.uint8), (side // 2, side // 2), side // 3, 255, side // 12, cv2.LINE_AA
    )
    rgba[..., 0] += (np.arange(side) % 40).astype(np.uint8)[None]  # marks that a recolouring would move
    rgba[..., 3] = alpha
    return rgba


def _png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("prompt", "strongest", "darker_than", "brighter_than"),
    [(STONE, 2, 90, 5), (VELVET, 0, 140, 20), (MARBLE, None, 256, 170), (CHARCOAL, None, 70, 2)],
)
def test_a_seed_prompt_gives_its_own_colours(
    prompt: str, strongest: int | None, darker_than: float, brighter_than: float
) -> None:
    picture = _scene(prompt)
    mean = picture.mean(axis=(0, 1))
    assert brighter_than < mean.mean() < darker_than
    if strongest is not None:
        assert int(np.argmax(mean)) == strongest


@pytest.mark.parametrize("material", ["marble", "stone", "linen", "concrete", "paper", "sand"])
@pytest.mark.parametrize(("side", "sign"), [("left", 1), ("right", -1)])
def test_the_side_the_light_comes_from_is_the_brighter_one(material: str, side: str, sign: int) -> None:
    columns = _scene(f"on beige {material}, light from the {side}").mean(axis=(0, 2))
    assert sign * (columns[:100].mean() - columns[-100:].mean()) > 3


def test_warm_light_is_warmer_than_cool_light() -> None:
    def warmth(word: str) -> float:
        mean = _scene(f"on grey concrete, {word} light").mean(axis=(0, 1))
        return float(mean[0] - mean[2])

    assert warmth("warm golden") > warmth("neutral") + 8 > warmth("cool") + 16


@pytest.mark.parametrize("colour", ["emerald", "teal", "burgundy", "mustard", "lavender", "#2255cc", "blush", "navy"])
def test_a_named_colour_is_the_scenes_colour(colour: str) -> None:
    named = np.array(colour_of(colour))
    mean = _scene(f"plain {colour} backdrop").mean(axis=(0, 1))
    hue = cv2.cvtColor(np.array([[named, mean / 255.0]], np.float32), cv2.COLOR_RGB2HSV)[0, :, 0]
    assert abs((hue[0] - hue[1] + 180) % 360 - 180) < 25


def test_different_prompts_give_visibly_different_scenes() -> None:
    pictures = [_scene(prompt) for prompt in (STONE, VELVET, MARBLE, CHARCOAL, "on green moss", "on oak, sunset light")]
    for index, first in enumerate(pictures):
        for second in pictures[index + 1 :]:
            assert np.abs(first - second).mean() > 8


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("no marble, on dark oak table", Material.WOOD),
        ("on black slate without marble", Material.STONE),
        ("emerald silk", Material.SILK),
        ("ripples of water", Material.WATER),
        ("a gold ring on cream linen. Keep its stone and metal unchanged.", Material.LINEN),
        ("preserve the stone, on ivory satin", Material.SILK),
        ("a leather strap watch on concrete", Material.CONCRETE),
        ("qwerty zxcv", Material.PLAIN),
        ("", Material.PLAIN),
    ],
)
def test_the_surface_is_what_the_prompt_says(prompt: str, expected: Material) -> None:
    assert read_prompt(prompt).surface is expected


def test_surface_and_backdrop_are_told_apart() -> None:
    scene = read_prompt("on a dark walnut table against a sage green wall")
    assert scene.surface is Material.WOOD
    assert scene.backdrop is Material.PLAIN
    red, green, blue = scene.backdrop_colour
    assert green > red > blue


def test_negated_shadows_are_left_out() -> None:
    assert not read_prompt("white paper without shadows").shadows
    assert read_prompt("white paper, soft shadows").shadows


def test_cushion_plinth_rim_and_bokeh_are_understood() -> None:
    velvet, charcoal = read_prompt(VELVET), read_prompt(CHARCOAL)
    assert velvet.support is Support.CUSHION
    assert velvet.bokeh
    assert charcoal.light.rim is not None
    assert charcoal.light.rim[0] > charcoal.light.rim[2]
    assert charcoal.light.hardness > 0.8
    assert read_prompt("on a marble pedestal").support is Support.PLINTH


def test_a_colour_of_the_product_does_not_colour_the_scene() -> None:
    plain = read_prompt("on white marble")
    assert read_prompt("a red ring with a blue gemstone on white marble").surface_colour == plain.surface_colour


@pytest.mark.parametrize("prompt", [STONE, VELVET, MARBLE, CHARCOAL])
def test_the_products_opaque_pixels_are_unchanged(prompt: str) -> None:
    """Only scaled and moved: where the placed product is opaque, the scene shows exactly its pixels."""
    ring = _gold_ring()
    placed = place_product(ring, read_prompt(prompt), 512, 512).rgba
    shown = _scene(prompt, _png(ring), side=512)
    opaque = placed[..., 3] == 255
    assert opaque.sum() > 5000
    assert (shown[opaque] == placed[opaque][:, :3]).all()


def test_the_product_is_scaled_evenly_to_a_good_share_of_the_frame() -> None:
    ring = _gold_ring()
    alpha = place_product(ring, Scene(), 800, 600).rgba[..., 3] > 127
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    tall, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert abs(tall - wide) <= 2
    assert 0.5 <= tall / 600 <= 0.65


def test_the_product_throws_a_shadow_away_from_the_light() -> None:
    def darkening(prompt: str) -> Array:
        cup = np.zeros((200, 200, 4), np.uint8)
        cup[40:180, 60:140] = (180, 60, 40, 255)
        bare = _scene(prompt + ", no shadows", _png(cup))
        return (bare - _scene(prompt, _png(cup))).mean(axis=2)

    from_left = darkening("on white paper, hard light from the left")
    assert from_left[:, 170:].mean() > from_left[:, :86].mean() + 1


@pytest.mark.parametrize("picture", [False, True])
def test_a_scene_is_the_same_by_seed_and_another_by_another(picture: bool) -> None:
    product = _png(_gold_ring()) if picture else None
    first = render_scene(MARBLE, product, width=200, height=160, seed=9)
    assert render_scene(MARBLE, product, width=200, height=160, seed=9) == first
    assert render_scene(MARBLE, product, width=200, height=160, seed=10) != first


@pytest.mark.parametrize("material", list(Material))
@pytest.mark.parametrize("shape", [(96, 96), (160, 64)])
def test_every_material_renders_at_any_shape(material: Material, shape: tuple[int, int]) -> None:
    png = render_scene(f"on {material.value}", _png(_gold_ring(side=64)), width=shape[0], height=shape[1], seed=3)
    image = Image.open(io.BytesIO(png))
    assert image.size == shape
    assert image.mode == "RGB"
    assert np.asarray(image).std() > 1


def test_a_photograph_without_transparency_is_cut_out_first() -> None:
    photo = np.full((240, 240, 3), 235, np.uint8)
    cv2.circle(photo, (120, 120), 60, (150, 20, 30), -1, cv2.LINE_AA)
    shown = _scene("on navy velvet", _png(photo))
    assert (np.abs(shown - [150, 20, 30]).max(axis=2) < 12).mean() > 0.1
    assert (shown.min(axis=2) > 200).mean() < 0.02  # nothing of the white wall is left
