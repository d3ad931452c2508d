"""Cut-outs measured against exact masks: the samples, and drawn photographs the method was not made for."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sandbox.pictures import cut_out
from sandbox.pictures.cutout import cut_out_pixels
from tests.sandbox.pictures_synthetic import photograph

Array = npt.NDArray[Any]

_ROOT = Path(__file__).resolve().parents[2]


def _decoded(png: bytes) -> Array:
    return np.array(Image.open(io.BytesIO(png)))


def _mask(name: str) -> Array:
    return np.array(Image.open(_ROOT / "tests" / "samples" / f"{name}.mask.png")) > 127


def _overlap(found: Array, truth: Array) -> float:
    """Intersection over union."""
    return float((found & truth).sum() / (found | truth).sum())


@pytest.fixture(scope="module")
def cutouts() -> dict[str, Array]:
    names = ("ring", "necklace", "earrings")
    return {name: _decoded(cut_out((_ROOT / "samples" / f"{name}.jpg").read_bytes())) for name in names}


@pytest.mark.parametrize(("name", "least"), [("ring", 0.95), ("necklace", 0.85), ("earrings", 0.7)])
def test_a_sample_is_cut_out_along_its_exact_mask(cutouts: dict[str, Array], name: str, least: float) -> None:
    assert _overlap(cutouts[name][..., 3] > 127, _mask(name)) >= least


def test_the_inside_of_a_ring_stays_open(cutouts: dict[str, Array]) -> None:
    alpha, truth = cutouts["ring"][..., 3], _mask("ring")
    outside, labels = cv2.connectedComponents((~truth).astype(np.uint8))
    sizes = [int((labels == label).sum()) for label in range(1, outside)]
    hole = labels == 1 + int(np.argsort(sizes)[-2])  # the largest is the surroundings
    assert (alpha[hole] < 16).mean() > 0.97


def test_a_cast_shadow_is_left_behind(cutouts: dict[str, Array]) -> None:
    """The ring's shadow falls to the right of it, on the floor."""
    alpha, truth = cutouts["ring"][..., 3], _mask("ring")
    beside = np.zeros_like(truth)
    beside[700:1100, 1150:] = True
    assert (alpha[beside & ~truth] < 16).mean() > 0.99


def test_edges_are_soft_and_carry_no_colour_of_the_old_background() -> None:
    """A red disc from a white wall shows no pale rim: its half-transparent pixels are as red as its middle."""
    drawn = np.full((400, 400, 3), 245, np.uint8)
    big = cv2.circle(np.zeros((1600, 1600), np.uint8), (800, 800), 480, 255, -1)
    share = cv2.resize(big, (400, 400), interpolation=cv2.INTER_AREA)[..., None] / 255.0
    drawn = (drawn * (1 - share) + np.array([170, 25, 30]) * share).round().astype(np.uint8)
    rgba = cut_out_pixels(drawn)
    rim = (rgba[..., 3] > 40) & (rgba[..., 3] < 230)
    assert rim.sum() > 200
    assert np.abs(rgba[rim][:, :3].astype(int) - [170, 25, 30]).max() < 40


def test_opaque_pixels_are_the_photographs_own(cutouts: dict[str, Array]) -> None:
    photo = np.array(Image.open(_ROOT / "samples" / "ring.jpg").convert("RGB"))
    opaque = cutouts["ring"][..., 3] == 255
    assert opaque.mean() > 0.1
    assert (cutouts["ring"][opaque][:, :3] == photo[opaque]).all()


def test_drawn_photographs_of_many_kinds_are_cut_out() -> None:
    """Bands, hoops, beads, bottles, mugs, watches, shoes on eleven backgrounds: none fails, most are near exact."""
    overlaps = []
    for number in range(100, 112):
        drawn = photograph(number, long_side=480)
        overlaps.append(_overlap(cut_out_pixels(drawn.colour)[..., 3] > 127, drawn.mask))
    assert np.mean(overlaps) > 0.85
    assert np.median(overlaps) > 0.90


@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_picture_without_a_product_still_gives_a_sensible_mask(level: int) -> None:
    """Neither empty nor full: downstream steps need something to place."""
    alpha = cut_out_pixels(np.full((120, 200, 3), level, np.uint8))[..., 3]
    assert 0.05 < (alpha > 127).mean() < 0.95


def test_noise_gives_neither_an_empty_nor_a_full_mask() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 150, 3), dtype=np.uint8)
    alpha = cut_out_pixels(noise)[..., 3]
    assert 0.0 < (alpha > 127).mean() < 1.0


def test_the_same_photograph_gives_the_same_bytes() -> None:
    photo = (_ROOT / "samples" / "cup.jpg").read_bytes()
    assert cut_out(photo) == cut_out(photo)


@pytest.mark.parametrize("size", [(8, 8), (9, 400), (400, 9), (3000, 40)])
def test_extreme_sizes_keep_their_size(size: tuple[int, int]) -> None:
    drawn = Image.new("RGB", size, "white")
    drawn.paste((20, 60, 160), (size[0] // 3, size[1] // 3, 2 * size[0] // 3, 2 * size[1] // 3))
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    assert Image.open(io.BytesIO(cut_out(buffer.getvalue()))).size == size
