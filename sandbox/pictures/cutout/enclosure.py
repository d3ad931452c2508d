"""Which doubtful pixels lie inside the product: a label on a bottle, a pale dial, a clear stone."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Mask

_AXES_NEEDED = 2  # of the four; a shadow strip across a ring's hole is held along one axis only


def held_between(product: Mask, differs: Mask) -> Mask:
    """Pixels that differ from the background and are held between product pixels along two axes or more.

    Held along an axis means: walking from the pixel in both directions one meets the product before one meets plain
    background. Axes: horizontal, vertical, both diagonals. All masks are H x W bool.
    """
    open_pixels = differs & ~product
    axes = np.zeros(product.shape, dtype=np.uint8)
    for slant in (0, 1, -1):
        axes += _reached(product, open_pixels, slant) & _reached(product[::-1], open_pixels[::-1], slant)[::-1]
    sideways = _reached(product.T, open_pixels.T, 0) & _reached(product.T[::-1], open_pixels.T[::-1], 0)[::-1]
    axes += sideways.T
    held = axes >= _AXES_NEEDED
    # Single pixels are noise of the walk.
    return cv2.morphologyEx(held.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _reached(product: Mask, open_pixels: Mask, slant: int) -> Mask:
    """Open pixels from which a walk upwards, drifting by `slant` columns a row, stays open until the product."""
    reached = np.zeros(product.shape, dtype=bool)
    before = np.zeros(product.shape[1], dtype=bool)
    for row in range(1, product.shape[0]):
        before = product[row - 1] | reached[row - 1]
        if slant == 1:
            before = np.concatenate(([False], before[:-1]))
        elif slant == -1:
            before = np.concatenate((before[1:], [False]))
        reached[row] = before & open_pixels[row]
    return reached
