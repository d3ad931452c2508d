"""Per-pixel evidence for "this is the product", made blind to cast shadows.

A shadow scales the light that reaches a surface. In CIE Lab (cube roots of tristimulus values) a scaling by s
scales L + 16, a and b alike by the cube root of s, so (a, b) / (L + 16) does not change in shadow: a pixel whose
lightness fell but whose chroma follows is background in shadow, one whose chroma does not follow is product.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sandbox.pictures.cutout.background import Background

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """How far each pixel departs from the background, H x W float32 maps in units of the background's spread."""

    #: Departure of the chroma that a shadow cannot explain; never negative.
    chroma: Floats
    #: Lightness above the background; never negative.
    brighter: Floats
    #: Lightness below the background; never negative.
    darker: Floats
    #: Cube root of the light left, as if it were a shadow: 1 = background, below about 0.5 too dark for a shadow.
    shade: Floats
    #: Fine light-dark detail (glints, engravings, wires) beyond the background's own texture; never negative.
    detail: Floats


def gather_evidence(lab: Floats, background: Background) -> Evidence:
    """Compare an H x W x 3 float32 Lab picture with its estimated background."""
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.7)
    shade = (smooth[..., 0] + 16.0) / (background.surface[..., 0] + 16.0)
    residual = smooth[..., 1:] - background.surface[..., 1:] * shade[..., None]
    chroma = np.sqrt(((residual / background.spread[..., 1:]) ** 2).sum(axis=-1))
    lightness = (smooth[..., 0] - background.surface[..., 0]) / background.spread[..., 0]
    return Evidence(
        chroma=chroma,
        brighter=np.maximum(lightness, 0.0),
        darker=np.maximum(-lightness, 0.0),
        shade=shade,
        detail=_detail(smooth[..., 0], background),
    )


def _detail(lightness: Floats, background: Background) -> Floats:
    """Local contrast of thin structures: what opening and closing with a small disc would remove."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    bright_lines = lightness - cv2.morphologyEx(lightness, cv2.MORPH_OPEN, disc)
    dark_lines = cv2.morphologyEx(lightness, cv2.MORPH_CLOSE, disc) - lightness
    thin = np.maximum(bright_lines, dark_lines)
    sure = background.support > 0.5
    usual = float(np.quantile(thin[sure], 0.95)) if sure.any() else 0.0
    return np.maximum(thin - usual, 0.0) / background.spread[..., 0]
