# mypy: disable-error-code="no-any-return"
"""A second opinion for busy backgrounds, where no smooth surface explains what lies around the product."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Mask

_LONG_SIDE = 400  # pixels; the cut's time grows faster than the picture
_ROUNDS = 2
_HULL_MARGIN = 0.03  # of the long side: how far beyond the hull the product may reach


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
    cv2.setRNGSeed(0)  # GrabCut clusters colours from random starts
    model_behind, model_product = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, (0, 0, 0, 0), model_behind, model_product, _ROUNDS, cv2.GC_INIT_WITH_MASK)
    product = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    height, width = found.shape
    return cv2.resize(product.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
