"""From evidence to one mask: which pixels are the product."""

import cv2
import numpy as np
import numpy.typing as npt

from sandbox.pictures.cutout.background import Background
from sandbox.pictures.cutout.evidence import Evidence
from sandbox.pictures.cutout.smoothing import smooth_globally

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def segment(lab: Floats, background: Background, evidence: Evidence) -> Mask:
    """The product's mask (H x W bool) at working size; never empty, never the whole picture."""
    likelihood = _likelihood(evidence)
    smoothed = smooth_globally(likelihood[..., None], lab, strength=60.0, edge_scale=3.0)[..., 0]
    mask = smoothed > 0.5
    mask = _settle_holes(mask, background, evidence)
    mask = _keep_pieces(mask, likelihood)
    share = float(mask.mean())
    if not 0.0005 < share < 0.95:
        return _centre_fallback(mask.shape)
    return mask


def _likelihood(evidence: Evidence) -> Floats:
    """0..1 per pixel; the scale follows the strongest evidence so that pale products on pale walls still count."""
    strong = float(np.quantile(evidence.chroma, 0.98))
    chroma_scale = np.clip(0.2 * strong, 5.0, 14.0)
    too_dark = np.clip((0.62 - evidence.shade) / 0.12, 0.0, 2.0)
    score = evidence.chroma / chroma_scale + evidence.brighter / 9.0 + evidence.detail / 7.0 + too_dark
    return (1.0 / (1.0 + np.exp(-5.0 * (score - 1.0)))).astype(np.float32)


def _settle_holes(mask: Mask, background: Background, evidence: Evidence) -> Mask:
    """Fill enclosed regions unless the background shows through them."""
    looks_like_background = (evidence.chroma < 4.0) & (evidence.brighter < 4.0) & (evidence.darker < 6.0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    height, width = mask.shape
    seen = np.bincount(labels.ravel(), weights=looks_like_background.ravel(), minlength=count)
    fill = np.zeros(count, dtype=bool)
    for region in range(1, count):
        left, top, region_width, region_height, area = stats[region]
        touches_frame = left == 0 or top == 0 or left + region_width == width or top + region_height == height
        if not touches_frame:
            fill[region] = area < 12 or seen[region] < 0.3 * area
    return mask | fill[labels]


def _keep_pieces(mask: Mask, likelihood: Floats) -> Mask:
    """Keep the pieces that carry the evidence; a pair of earrings is two, specks are none."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    weight = np.bincount(labels.ravel(), weights=likelihood.ravel(), minlength=count)
    weight[0] = 0.0
    keep = weight >= max(0.01 * weight.max(), 0.00005 * mask.size)
    return keep[labels]


def _centre_fallback(shape: tuple[int, ...]) -> Mask:
    """An ellipse in the middle: when nothing stands out, the middle is where a product would be."""
    height, width = shape
    ellipse = np.zeros((height, width), dtype=np.uint8)
    cv2.ellipse(ellipse, (width // 2, height // 2), (round(width * 0.35), round(height * 0.35)), 0, 0, 360, 1, -1)
    return ellipse.astype(bool)
