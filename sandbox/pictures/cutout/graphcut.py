# mypy: disable-error-code="no-any-return"
"""A second opinion for busy backgrounds, where no smooth surface explains what lies around the product."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Mask

_LONG_SIDE = 400  # pixels; the cut's time grows faster than the picture
_ROUGH_LONG_SIDE = 320  # pixels; enough to tell a subject from its surroundings
_ROUNDS = 2
_HULL_MARGIN = 0.03  # of the long side: how far beyond the hull the product may reach
_NEAR_BLACK = 45  # of 255: 8-bit Lab lightness
_LARGEST_SHADOW = 0.2  # of the product's area


def cut_within_hull(colour: Bytes, found: Mask) -> Mask:
    """The product's mask (H x W bool) by GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) inside a convex hull.

    What was found for certain is a few bright or oddly coloured parts of the product. Their convex hull frames it:
    outside is background, inside the colour models of both decide.

    Args:
        colour: H x W x 3 uint8 RGB.
        found: H x W bool.
    """
    scale = min(1.0, _LONG_SIDE / max(found.shape))
    small = cv2.cvtColor(cv2.resize(colour, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    certain = cv2.resize(found.astype(np.uint8), small.shape[1::-1], interpolation=cv2.INTER_AREA)
    points = np.argwhere(certain)[:, ::-1].astype(np.int32)
    if len(points) < 3:
        return found
    hull = np.zeros(certain.shape, dtype=np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
    margin = 2 * round(_HULL_MARGIN * _LONG_SIDE) + 1
    labels: Bytes = np.full(certain.shape, cv2.GC_BGD, dtype=np.uint8)
    labels[cv2.dilate(hull, np.ones((margin, margin), np.uint8)) > 0] = cv2.GC_PR_BGD
    labels[hull > 0] = cv2.GC_PR_FGD
    labels[certain > 0] = cv2.GC_FGD
    if not (labels == cv2.GC_BGD).any():
        return found
    product = _grab_cut(small, labels)
    product &= ~_outer_darkness(small, product, certain > 0)
    product = _without_crumbs(product)
    height, width = found.shape
    return cv2.resize(product.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5


def cut_around_centre(colour: Bytes) -> Mask:
    """The likely subject of an H x W x 3 uint8 picture, h x w bool at a reduced size: what is unlike the margins."""
    scale = min(1.0, _ROUGH_LONG_SIDE / max(colour.shape[:2]))
    small = cv2.resize(colour, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = small.shape[:2]
    labels: Bytes = np.full((height, width), cv2.GC_BGD, dtype=np.uint8)
    for share, label in ((0.44, cv2.GC_PR_FGD), (0.10, cv2.GC_FGD)):
        axes = (max(1, round(share * width)), max(1, round(share * height)))
        cv2.ellipse(labels, (width // 2, height // 2), axes, 0, 0, 360, label, -1)
    return _grab_cut(small, labels)


def _grab_cut(pixels: Bytes, labels: Bytes) -> Mask:
    """Run GrabCut from the given labels, which it changes."""
    cv2.setRNGSeed(0)  # it clusters colours from random starts
    model_behind, model_product = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(pixels, labels, (0, 0, 0, 0), model_behind, model_product, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    return (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)


def _without_crumbs(product: Mask) -> Mask:
    """Only pieces of some size, and no threads between them."""
    opened = cv2.morphologyEx(product.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return (areas > 0.02 * areas.max())[labels]


def _outer_darkness(bgr: Bytes, product: Mask, certain: Mask) -> Mask:
    """Near-black parts of the mask that reach its outline: the deep shadow under the product, seldom the product."""
    lightness = cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB)[..., 0]
    dark = product & ~certain & (lightness < _NEAR_BLACK)
    count, areas = cv2.connectedComponents((dark | ~product).astype(np.uint8), connectivity=4)
    outside = np.bincount(areas.ravel(), weights=(~product).ravel(), minlength=count) > 0
    outside[0] = False
    rim = dark & outside[areas]
    # A large black part is the product after all.
    return rim if rim.sum() < _LARGEST_SHADOW * product.sum() else np.zeros_like(rim)
