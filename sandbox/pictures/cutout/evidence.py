# mypy: disable-error-code="no-any-return"
"""Per-pixel evidence for "this is the product", made blind to cast shadows.

A shadow scales the light that reaches a surface. In CIE Lab (cube roots of tristimulus values) a scaling by s
scales L + 16, a and b alike by the cube root of s, so (a, b) / (L + 16) does not change in shadow: a pixel whose
lightness fell but whose chroma follows is background in shadow, one whose chroma does not follow is product.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from sandbox.pictures.arrays import Floats
from sandbox.pictures.cutout.background import Background
from sandbox.pictures.cutout.smoothing import smooth_globally


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How far each pixel departs from the background, H x W float32 maps in units of the background's spread."""

    #: Departure of the chroma that a shadow cannot explain; never negative.
    chroma: Floats
    #: The part of it that is a loss of the background's own tint, as on silver and glass; never negative.
    neutral: Floats
    #: Lightness above the background; never negative.
    brighter: Floats
    #: Lightness below the background; never negative.
    darker: Floats
    #: Cube root of the light left, as if it were a shadow: 1 = background.
    shade: Floats
    #: Fine bright marks (glints, lit wires) beyond the background's own texture; never negative.
    glint: Floats
    #: Fine dark marks (wires, engravings); never negative.
    line: Floats
    #: The background's own chroma, in Lab units: how much tint there is to follow or to lose.
    tint: Floats


def gather_evidence(lab: Floats, background: Background) -> Evidence:
    """Compare an H x W x 3 float32 Lab picture with its estimated background."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.7)
    surface = background.surface
    shade = (smooth[..., 0] + 16.0) / (surface[..., 0] + 16.0)
    residual = (smooth[..., 1:] - surface[..., 1:] * shade[..., None]) / background.spread[..., 1:]
    tint = _length(surface[..., 1:])
    residual = _without_bounced_light(residual, surface, tint, shade)
    # A mean over the region tells a slight but steady departure from noise, which averages out.
    steady = smooth_globally(residual, lab, strength=20.0, edge_scale=3.0)
    chroma = 0.5 * _length(residual) + 0.5 * _length(steady)
    away_from_tint = -_dot(steady, surface[..., 1:]) / np.maximum(tint, 1.0)
    lightness = (smooth[..., 0] - surface[..., 0]) / background.spread[..., 0]
    glint, line = _fine_marks(smooth[..., 0], background)
    return Evidence(
        chroma=chroma,
        # No more than all of the tint can be lost; beyond that it is another colour's light.
        neutral=np.clip(away_from_tint, 0.0, tint * shade / background.spread[..., 1]),
        brighter=np.maximum(lightness, 0.0),
        darker=np.maximum(-lightness, 0.0),
        shade=shade,
        glint=glint,
        line=line,
        tint=tint,
    )


def _without_bounced_light(residual: Floats, surface: Floats, tint: Floats, shade: Floats) -> Floats:
    """The chroma residual (H x W x 2) without losses of tint in deep shade, where light off the product rules."""
    untinted = -surface[..., 1:] / np.maximum(tint, 1.0)[..., None]
    loss = np.maximum(_dot(residual, untinted), 0.0)
    share = np.clip((0.65 - shade) / 0.3, 0.0, 1.0)
    return residual - (share * loss)[..., None] * untinted


def _fine_marks(lightness: Floats, background: Background) -> tuple[Floats, Floats]:
    """What opening and closing with a small disc remove: fine bright marks and fine dark marks."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    bright = lightness - cv2.morphologyEx(lightness, cv2.MORPH_OPEN, disc)
    dark = cv2.morphologyEx(lightness, cv2.MORPH_CLOSE, disc) - lightness
    sure = background.support > 0.5
    usual_bright, usual_dark = (float(np.quantile(m[sure], 0.95)) if sure.any() else 0.0 for m in (bright, dark))
    spread = background.spread[..., 0]
    return np.maximum(bright - usual_bright, 0.0) / spread, np.maximum(dark - usual_dark, 0.0) / spread


def _dot(first: Floats, second: Floats) -> Floats:
    return np.einsum("ijk,ijk->ij", first, second)


def _length(vectors: Floats) -> Floats:
    return np.sqrt(_dot(vectors, vectors))
