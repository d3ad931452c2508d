"""Restoring and colouring the old photograph, measured against the picture it was made from."""

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sandbox.pictures import colourise, restore
from sandbox.pictures.colour import read_style
from sandbox.pictures.restore import find_damage

Array = npt.NDArray[Any]

_SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def _pixels(data: bytes) -> Array:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def _lightness(colour: Array) -> Array:
    return cv2.cvtColor(colour.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)[..., 0]


def _similarity(first: Array, second: Array) -> float:
    """Mean SSIM (Wang, Bovik, Sheikh, Simoncelli 2004), Gaussian window of deviation 1.5, on 8-bit luminance."""
    one, two = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64) for picture in (first, second))

    def mean(values: Array) -> Array:
        return cv2.GaussianBlur(values, (0, 0), 1.5)

    mean_one, mean_two = mean(one), mean(two)
    variance_one, variance_two = mean(one * one) - mean_one**2, mean(two * two) - mean_two**2
    covariance = mean(one * two) - mean_one * mean_two
    small, smaller = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    ratio = (2 * mean_one * mean_two + small) * (2 * covariance + smaller)
    return float((ratio / ((mean_one**2 + mean_two**2 + small) * (variance_one + variance_two + smaller))).mean())


@pytest.fixture(scope="module")
def old_photo() -> bytes:
    return (_SAMPLES / "old-photo.jpg").read_bytes()


@pytest.fixture(scope="module")
def restored(old_photo: bytes) -> bytes:
    return restore(old_photo)


def test_restoring_brings_the_old_photograph_clearly_nearer_to_the_original(old_photo: bytes, restored: bytes) -> None:
    original = _pixels((_SAMPLES / "cup.jpg").read_bytes())
    before, after = _similarity(_pixels(old_photo), original), _similarity(_pixels(restored), original)
    assert after > before + 0.06


def test_the_sepia_cast_is_gone(old_photo: bytes, restored: bytes) -> None:
    def cast(data: bytes) -> float:
        mean = _pixels(data).mean(axis=(0, 1))
        return float(mean.max() - mean.min())

    assert cast(old_photo) > 20
    assert cast(restored) < 3


def test_scratches_and_dust_are_found_where_they_are() -> None:
    clean = cv2.GaussianBlur(np.random.default_rng(2).integers(60, 200, (400, 500), dtype=np.uint8), (0, 0), 25)
    scratched = cv2.line(clean.copy(), (100, 30), (130, 360), 255, 1)
    cv2.circle(scratched, (300, 200), 3, 5, -1)
    damage = find_damage(scratched) > 0
    truth = scratched != clean
    assert damage[truth].mean() > 0.9
    assert damage[cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0].mean() < 0.002
    assert not find_damage(clean).any()


def test_a_sound_colour_photograph_keeps_its_colours() -> None:
    photo = (_SAMPLES / "cup.jpg").read_bytes()
    before, after = _pixels(photo).astype(float), _pixels(restore(photo)).astype(float)
    assert np.corrcoef(before[..., 0].ravel(), after[..., 0].ravel())[0, 1] > 0.97
    assert (after[..., 0] - after[..., 2]).mean() > 20


@pytest.mark.parametrize("instruction", ["natural", "vivid", "vintage", "a cool blue bottle", ""])
def test_colouring_keeps_the_lightness(restored: bytes, instruction: str) -> None:
    difference = np.abs(
        _lightness(_pixels(colourise(restored, instruction=instruction))) - _lightness(_pixels(restored))
    )
    assert difference.mean() < 0.3
    assert difference.max() < 2.0


def test_style_words_change_the_colours(restored: bytes) -> None:
    def chroma(instruction: str) -> Array:
        lab = cv2.cvtColor(_pixels(colourise(restored, instruction=instruction)), cv2.COLOR_RGB2LAB).astype(float)
        return lab[..., 1:] - 128

    def strength(values: Array) -> float:
        return float(np.hypot(values[..., 0], values[..., 1]).mean())

    assert strength(chroma("natural")) > 5
    assert strength(chroma("vivid")) > 1.3 * strength(chroma("natural"))
    assert chroma("warm")[..., 1].mean() > chroma("natural")[..., 1].mean() + 4 > chroma("cool")[..., 1].mean() + 8


def test_a_colour_in_the_instruction_is_the_subjects() -> None:
    style = read_style("colour it vivid: a dark green cup")
    assert style.subject is not None
    assert style.subject[0] < -10  # Lab a: green
    assert style.saturation > 1.3
