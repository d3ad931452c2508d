# mypy: disable-error-code="no-any-return"
"""Colour for black-and-white pictures: a hand-made prior steered by words, never touching the lightness.

Nothing here was learned from pictures. The prior is the painter's: what is smooth, bright and reaches the top edge
is sky; the subject takes the warm middle tones; the ground is earthy; shadows lean cool and lights lean cream. A
colour named in the instruction ("a red cup") is given to the subject.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Floats, Mask, floats
from sandbox.pictures.colour_names import colour_of, is_modifier
from sandbox.pictures.cutout.graphcut import cut_around_centre
from sandbox.pictures.cutout.smoothing import smooth_globally
from sandbox.pictures.decode import decode
from sandbox.pictures.metadata import encode_png

_MAP_LONG_SIDE = 480  # pixels; colour may be coarser than lightness, as in every JPEG


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What the instruction asks for."""

    saturation: float  #: factor on all chroma
    warmth: float  #: Lab units added towards yellow-orange (positive) or blue (negative)
    subject: tuple[float, float] | None  #: Lab a, b named for the subject, if a colour was named


_SATURATION = {
    "natural": 1.0, "realistic": 1.0, "vivid": 1.7, "bold": 1.6, "saturated": 1.7, "cinematic": 1.3,
    "vintage": 0.75, "faded": 0.55, "muted": 0.6, "pastel": 0.65, "subtle": 0.7, "kodachrome": 1.25,
}  # fmt: skip
_WARMTH = {
    "warm": 8.0, "golden": 9.0, "vintage": 9.0, "kodachrome": 7.0, "sunset": 11.0, "cool": -9.0, "cold": -11.0,
    "blue": -2.0, "winter": -9.0, "sepia": 12.0,
}  # fmt: skip

# Lab a, b along the lightness: (L, a, b). Shadows lean cool, lights lean cream.
_SUBJECT_TONES = ((0, 3, -2), (22, 18, 12), (45, 24, 24), (68, 15, 24), (88, 3, 9), (100, 0, 3))
_GROUND_TONES = ((0, 0, -4), (25, 6, 10), (50, 9, 21), (75, 5, 17), (100, 0, 3))
_SKY_TONES = ((0, 0, -6), (50, -4, -26), (80, -6, -22), (95, -1, -6), (100, 0, 0))


def colourise(photo: bytes, *, instruction: str) -> bytes:
    """The photograph in colour: PNG, RGB, same size upright, Lab lightness kept to rounding.

    Raises:
        UnreadablePictureError: See `sandbox.pictures.decode`.
    """
    return encode_png(colourise_pixels(decode(photo).colour, style=read_style(instruction)))


def read_style(instruction: str) -> Style:
    """The style words and the first colour of an instruction; nothing understood means natural."""
    words = re.findall(r"#[0-9a-f]{3,6}\b|[a-z]+", instruction.lower())
    saturations = [_SATURATION[word] for word in words if word in _SATURATION]
    warmths = [_WARMTH[word] for word in words if word in _WARMTH]
    subject = None
    for index, word in enumerate(words):
        named = (
            None if word in _WARMTH else colour_of(word, tuple(filter(is_modifier, words[max(0, index - 1) : index])))
        )
        if named is not None:
            lab = cv2.cvtColor(np.array([[named]], np.float32), cv2.COLOR_RGB2LAB)[0, 0]
            subject = (float(lab[1]), float(lab[2]))
            break
    return Style(
        saturation=float(np.mean(saturations)) if saturations else 1.0,
        warmth=float(np.mean(warmths)) if warmths else 0.0,
        subject=subject,
    )


def colourise_pixels(colour: Bytes, *, style: Style) -> Bytes:
    """Colour an H x W x 3 uint8 RGB picture; whatever colour it has is replaced."""
    cv2.setNumThreads(1)
    height, width = colour.shape[:2]
    lightness = cv2.cvtColor(colour.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)[..., 0]
    shrink = min(1.0, _MAP_LONG_SIDE / max(height, width))
    small = cv2.resize(lightness, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    subject = cv2.resize(cut_around_centre(colour).astype(np.uint8), small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    chroma = _chroma_map(small, subject > 0, style)
    chroma = cv2.resize(chroma, (width, height), interpolation=cv2.INTER_CUBIC)
    return _within_gamut(lightness, chroma)


def _chroma_map(lightness: Floats, subject: Mask, style: Style) -> Floats:
    """Lab a and b (h x w x 2) for an h x w lightness map."""
    guide = lightness[..., None]
    even = smooth_globally(guide, guide, strength=40.0, edge_scale=4.0)[..., 0]
    sky = _sky(even, lightness) & ~subject
    regions = np.dstack([subject, sky]).astype(np.float32)
    regions = smooth_globally(regions, guide, strength=20.0, edge_scale=3.0)
    subject_share, sky_share = regions[..., :1], regions[..., 1:]

    subject_tones = _tones(even, _SUBJECT_TONES)
    if style.subject is not None:  # full colour in the middle tones, less towards black and white
        strength = np.interp(even, (0, 15, 45, 75, 100), (0.25, 0.75, 1.0, 0.8, 0.05))[..., None]
        subject_tones = strength * floats(*style.subject)
    ground_tones = _tones(even, _GROUND_TONES)
    mixed = ground_tones * (1.0 - sky_share) + _tones(even, _SKY_TONES) * sky_share
    mixed = mixed * (1.0 - subject_share) + subject_tones * subject_share
    toned = mixed * style.saturation + floats(0.25, 1.0) * style.warmth
    return toned.astype(np.float32)


def _sky(even: Floats, lightness: Floats) -> Mask:
    """Bright, smooth pixels connected to the top edge."""
    busyness = cv2.blur(np.abs(lightness - cv2.blur(lightness, (5, 5))), (9, 9))
    candidate = ((even > 55.0) & (busyness < 1.5)).astype(np.uint8)
    count, labels = cv2.connectedComponents(candidate)
    at_top = np.bincount(labels[0], minlength=count)
    at_top[0] = 0
    return (at_top > 0.3 * lightness.shape[1])[labels]


def _tones(lightness: Floats, tones: tuple[tuple[int, int, int], ...]) -> Floats:
    levels, red_green, yellow_blue = zip(*tones, strict=True)
    return np.dstack([np.interp(lightness, levels, red_green), np.interp(lightness, levels, yellow_blue)])


def _within_gamut(lightness: Floats, chroma: Floats) -> Bytes:
    """sRGB (uint8) of the given lightness, with the chroma lowered where sRGB cannot show it at that lightness."""
    best = cv2.cvtColor(np.dstack([lightness, np.zeros_like(chroma)]), cv2.COLOR_LAB2RGB)
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        lab = np.dstack([lightness, share * chroma]).astype(np.float32)
        rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        # OpenCV clips on conversion: where the way back gives another lightness, the colour was out of gamut.
        back = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[..., 0]
        fits = np.abs(back - lightness) < 0.4
        best = np.where(fits[..., None], rgb, best)
    return (best * 255.0).round().clip(0, 255).astype(np.uint8)
