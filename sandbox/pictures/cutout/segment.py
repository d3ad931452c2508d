# mypy: disable-error-code="no-any-return"
"""From evidence to one mask: which pixels are the product."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Floats, Mask
from sandbox.pictures.cutout.enclosure import held_between
from sandbox.pictures.cutout.evidence import Evidence
from sandbox.pictures.cutout.smoothing import smooth_globally

_LARGEST_RIM = 0.2  # of the product's area: what may be peeled off in one piece


def segment(lab: Floats, evidence: Evidence) -> Mask:
    """The product's mask (H x W bool) at working size; never empty, never the whole picture."""
    likelihood = _likelihood(evidence)
    smoothed = smooth_globally(likelihood[..., None], lab, strength=16.0, edge_scale=3.0)[..., 0]
    mask = _with_thin_parts(smoothed > 0.5, likelihood)
    mask = _without_soft_rims(mask, lab, evidence)
    differs = (evidence.chroma > 2.0) | (evidence.brighter > 2.5)
    mask |= held_between(mask, differs)
    mask = _settle_holes(mask, evidence)
    mask = _without_fringe(mask, evidence)
    mask = _keep_pieces(mask, likelihood)
    share = float(mask.mean())
    if not 0.0005 < share < 0.95:
        return _centre_fallback(mask.shape)
    return mask


def _likelihood(evidence: Evidence) -> Floats:
    """0..1 per pixel; about 0.5 where one kind of evidence alone just suffices."""
    score = (
        evidence.chroma / _chroma_scale(evidence.chroma)
        + evidence.neutral / 8.0
        + evidence.brighter / 9.0
        + evidence.glint / 4.0
        + evidence.line / 7.0 * np.clip((evidence.shade - 0.5) / 0.25, 0.2, 1.0)  # the slit under a bead is dark, too
        + _too_dark(evidence)
    )
    return (1.0 / (1.0 + np.exp(-5.0 * (score - 1.0)))).astype(np.float32)


def _chroma_scale(chroma: Floats) -> float:
    """The departure that counts as product, in units of spread.

    It follows the strongest colour in the picture: light through a coloured stone tints its shadow by up to a fifth
    or so of the stone's own colour, while a pale product on a pale wall has no strong colour at all.
    """
    coloured = chroma[chroma > 6.0]
    strong = float(np.quantile(coloured, 0.8)) if coloured.size > 0.002 * chroma.size else 0.0
    return float(np.clip(0.27 * strong, 3.2, 18.0))


def _too_dark(evidence: Evidence) -> Floats:
    """Darkness beyond a shadow's, where it is broad; thin dark rims are contact shadows."""
    deep = np.clip((0.60 - evidence.shade) / 0.12, 0.0, 2.0)
    width = _slit_width(deep)
    thick = cv2.morphologyEx(deep, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    return np.minimum(deep, 1.5 * cv2.dilate(thick, np.ones((3, 3), np.uint8)))


def _without_soft_rims(mask: Mask, lab: Floats, evidence: Evidence) -> Mask:
    """Peel off what fades into the background: contact shadows and light that coloured glass throws.

    The outside is let in through pixels whose colour changes slowly for how far they depart from the background; a
    product's outline is steep, so there it stops.
    """
    smooth = cv2.GaussianBlur(lab, (0, 0), 0.8)
    across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    steepness = cv2.dilate(
        np.sqrt(np.einsum("ijk,ijk->ij", across, across) + np.einsum("ijk,ijk->ij", down, down)),
        np.ones((3, 3), np.uint8),
    )
    departure = _departure(evidence)
    fades = mask & (steepness < 0.11 * departure) & (evidence.brighter < 3.0)
    # The slit right under the product is dark and sharp, but has the background's colour and no breadth.
    slit = mask & (evidence.shade < 0.75) & (evidence.chroma < 3.0) & (_too_dark(evidence) < 0.5)
    breadth = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_slit_width(mask), _slit_width(mask)))
    slit &= cv2.morphologyEx(slit.astype(np.uint8), cv2.MORPH_OPEN, breadth) == 0
    # One after the other: together, a slit would be the door into a smooth dark strap.
    rims = _reached_from_outside(mask, fades) | _reached_from_outside(mask, slit)
    # A rim as large as the product is no rim: the outside broke in through a gap in a faint outline.
    count, labels = cv2.connectedComponents(rims.astype(np.uint8), connectivity=4)
    area = np.bincount(labels.ravel(), minlength=count)
    rims &= (area < _LARGEST_RIM * mask.sum())[labels]
    # Peeling leaves crumbs of the shadow's steeper places.
    return cv2.morphologyEx((mask & ~rims).astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0


def _reached_from_outside(mask: Mask, passable: Mask) -> Mask:
    """The passable pixels of the mask that connect, through passable ones only, to what is not in the mask."""
    count, labels = cv2.connectedComponents((passable | ~mask).astype(np.uint8), connectivity=4)
    meets_outside = np.bincount(labels.ravel(), weights=(~mask).ravel(), minlength=count) > 0
    meets_outside[0] = False
    return passable & meets_outside[labels]


def _slit_width(mask: Mask) -> int:
    """Pixels: contact shadows and soft rims of darkness are narrower than this."""
    return round(0.02 * max(mask.shape)) | 1


def _without_fringe(mask: Mask, evidence: Evidence) -> Mask:
    """Trim the outermost pixels that only carry the blur of a much stronger neighbour.

    Evidence that barely suffices is reached a pixel or two outside a strongly coloured outline.
    """
    departure = _departure(evidence) * mask
    strongest = cv2.dilate(departure, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    weak = mask & (departure < 0.36 * strongest)
    rim = mask & (cv2.erode(mask.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))) == 0)
    return mask & ~_reached_from_outside(mask, weak & rim)


def _departure(evidence: Evidence) -> Floats:
    """How far a pixel's colour is from the background's, about in Lab units."""
    return np.hypot(100.0 * np.abs(1.0 - evidence.shade), evidence.chroma).astype(np.float32)


def _with_thin_parts(mask: Mask, likelihood: Floats) -> Mask:
    """Add wires, which the smoothing wears away: weaker pixels count where they connect to strong ones."""
    weak = (likelihood > 0.3).astype(np.uint8)
    count, labels = cv2.connectedComponents(weak, connectivity=8)
    strong = np.bincount(labels.ravel(), weights=(likelihood > 0.8).ravel(), minlength=count)
    size = np.bincount(labels.ravel(), minlength=count)
    keep = (strong > 0.3 * size) & (strong >= 6)
    keep[0] = False
    return mask | keep[labels]


def _settle_holes(mask: Mask, evidence: Evidence) -> Mask:
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
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    weight = np.bincount(labels.ravel(), weights=likelihood.ravel(), minlength=count)
    weight[0] = 0.0
    at_frame = np.zeros(count, dtype=bool)
    at_frame[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    # What the frame cuts is rather a vein, a table edge or a neighbour than a second piece.
    share = np.where(at_frame, 0.12, 0.01)
    keep = weight >= np.maximum(share * weight.max(), 0.00005 * mask.size)
    return keep[labels]


def _centre_fallback(shape: tuple[int, ...]) -> Mask:
    """An ellipse in the middle: when nothing stands out, the middle is where a product would be."""
    height, width = shape
    ellipse = np.zeros((height, width), dtype=np.uint8)
    cv2.ellipse(ellipse, (width // 2, height // 2), (round(width * 0.35), round(height * 0.35)), 0, 0, 360, 1, -1)
    return ellipse.astype(bool)
