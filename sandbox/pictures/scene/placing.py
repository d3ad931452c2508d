"""Where the product goes: its size, its place, and whether it stands, or lies flat."""

from dataclasses import dataclass

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes
from sandbox.pictures.scene.description import Scene, Support

_FILL = 0.60  # of the frame, by the product's longer side: present without crowding
_FILL_ON_SUPPORT = 0.54  # a cushion or plinth wants some frame for itself
_OPAQUE_ENOUGH = 24  # alpha below this is the soft fringe, not the product's body


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Positions in the frame, in pixels from the top left corner."""

    width: int
    height: int
    #: Where the visible floor ends and the backdrop begins; negative = floor all over.
    horizon: float
    #: The line the product touches, or would touch.
    base: float
    #: The product's centre.
    centre: tuple[float, float]
    #: The product's extent: the larger of its width and height.
    extent: float
    #: Lying flat and seen from above, rather than standing up.
    lying: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedProduct:
    """The product scaled and moved into the frame."""

    #: H x W x 4 uint8, straight alpha; fully transparent around the product.
    rgba: Bytes
    layout: Layout


def lay_out_empty(scene: Scene, width: int, height: int) -> Layout:
    """The layout of a scene without a product."""
    extent = _FILL * min(width, height)
    return Layout(
        width=width,
        height=height,
        horizon=_horizon(scene.elevation, height, lying=False),
        base=0.78 * height,
        centre=(scene.place * width, 0.78 * height - extent / 2.0),
        extent=extent,
        lying=False,
    )


def place_product(cutout: Bytes, scene: Scene, width: int, height: int) -> PlacedProduct:
    """Scale the cut-out (h x w x 4 uint8) evenly and put it into a width x height frame."""
    product = _trim(cutout)
    fill = _FILL if scene.support is Support.NONE else _FILL_ON_SUPPORT
    factor = min(fill * width / product.shape[1], fill * height / product.shape[0])
    product = resize_rgba(product, factor)
    product_height, product_width = product.shape[:2]
    lying = _lies_flat(product[..., 3]) or scene.elevation >= 60.0

    if lying:
        middle = (0.56 if scene.support is Support.NONE else 0.55) * height
        base = middle + product_height / 2.0
    else:
        base = {Support.NONE: 0.81, Support.CUSHION: 0.74, Support.PLINTH: 0.72}[scene.support] * height
    left = round(min(max(scene.place * width - product_width / 2.0, 0), width - product_width))
    top = round(min(max(base - product_height, 0), height - product_height))
    rgba = np.zeros((height, width, 4), dtype=np.uint8)
    rgba[top : top + product_height, left : left + product_width] = product
    return PlacedProduct(
        rgba=rgba,
        layout=Layout(
            width=width,
            height=height,
            horizon=_horizon(scene.elevation, height, lying=lying),
            base=float(top + product_height),
            centre=(left + product_width / 2.0, top + product_height / 2.0),
            extent=float(max(product_width, product_height)),
            lying=lying,
        ),
    )


def resize_rgba(rgba: Bytes, factor: float) -> Bytes:
    """Scale h x w x 4 uint8 evenly; colours are weighted by alpha, so hidden ones cannot bleed in."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    premultiplied = np.dstack([rgba[..., :3] * alpha, alpha * 255.0]).astype(np.float32)
    size = (max(1, round(rgba.shape[1] * factor)), max(1, round(rgba.shape[0] * factor)))
    scaled = cv2.resize(premultiplied, size, interpolation=cv2.INTER_AREA if factor < 1.0 else cv2.INTER_CUBIC)
    scaled_alpha = np.clip(scaled[..., 3:], 0.0, 255.0)
    colours = scaled[..., :3] / np.maximum(scaled_alpha / 255.0, 1e-3)
    return np.dstack([colours, scaled_alpha]).round().clip(0, 255).astype(np.uint8)


def _trim(cutout: Bytes) -> Bytes:
    """The cut-out without its transparent surroundings."""
    body = cutout[..., 3] >= _OPAQUE_ENOUGH
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    if rows.size == 0:
        return cutout
    return np.ascontiguousarray(cutout[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _lies_flat(alpha: Bytes) -> bool:
    """Whether this looks like something laid down: an open, wide shape (a chain), or a row of separate pieces."""
    body = (alpha >= 128).astype(np.uint8)
    contours, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return False
    hull = cv2.convexHull(np.vstack(contours))
    hull_share = float(cv2.contourArea(hull)) / body.size
    filled = float(body.mean()) / max(hull_share, 1e-6)
    height, width = body.shape
    areas = sorted((cv2.contourArea(contour) for contour in contours), reverse=True)
    several = len(areas) > 1 and areas[1] > 0.25 * areas[0]
    return (filled < 0.5 and width > 1.15 * height) or several or filled < 0.22


def _horizon(elevation: float, height: int, *, lying: bool) -> float:
    share = float(np.interp(elevation, (0, 12, 30, 45, 60), (0.70, 0.64, 0.38, 0.12, -0.3)))
    # What lies flat was photographed from above; a low horizon would stand it up against the backdrop.
    return height * (min(share, 0.16) if lying else share)
