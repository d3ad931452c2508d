# mypy: disable-error-code="no-any-return"
"""From the mask at working size to a soft alpha and clean edge colours at the picture's own size."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Floats, Mask

MAX_MATTE_PIXELS = 2_500_000  # soft edges are solved at this size at most; alpha is enlarged beyond it
_TELLING_CONTRAST = 0.03  # in linear light, 0..1: from here on a mixture of product and background can be read
# Between sRGB (1.0), in which the cut-out will be laid over its new background, and linear light (2.2), in which the
# lens mixed the old one: outlines measure right, and compositing shows no rim.
_MIXING_GAMMA = 1.5
_MIXING = (np.arange(256, dtype=np.float32) / 255.0) ** np.float32(_MIXING_GAMMA)


def refine_alpha(colour: Bytes, mask: Mask) -> Floats:
    """Alpha (H x W float32, 0..1) of an H x W x 3 RGB picture from a mask at any smaller size.

    Only a narrow band along the mask's outline is soft: inside it is 1, outside 0. Within the band each pixel is
    taken for a mixture alpha * F + (1 - alpha) * B of the colours just inside and just outside, so alpha is its
    position on the line from B to F (as in Bayesian matting, Chuang et al., CVPR 2001, with one colour each).
    """
    height, width = colour.shape[:2]
    scale = max(1.0, width / mask.shape[1])
    coarse = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    coarse = cv2.GaussianBlur(coarse, (0, 0), 0.5 * scale)
    reach = max(2, round(2.0 * scale))
    inside = coarse > 0.5
    surely_outside = ~_grown(inside, reach)

    picture = _MIXING[colour]  # an edge pixel adds up light, not sRGB values
    outer, outer_known = _spread(picture, surely_outside, 2 * reach)
    # What departs most from the background nearby is the product unmixed, even where a wire has no inside.
    departure = np.sqrt(_dot(picture - outer, picture - outer)) * inside
    unmixed = inside & (departure >= 0.85 * cv2.dilate(departure, _disc(reach)))
    inner, inner_known = _spread(picture, unmixed, reach)
    core = _shrunk(inside, reach)
    span = inner - outer
    contrast = _dot(span, span)
    mixture = _dot(picture - outer, span) / np.maximum(contrast, 1e-5)
    # Where the two colours are alike, or one of them is out of reach, the outline decides.
    trust = np.clip((np.sqrt(contrast) - _TELLING_CONTRAST) / _TELLING_CONTRAST, 0.0, 1.0) * inner_known * outer_known
    alpha = coarse + trust * (np.clip((mixture - 0.5) * 1.15 + 0.5, 0.0, 1.0) - coarse)
    alpha = np.clip((alpha - 0.04) / 0.92, 0.0, 1.0)
    alpha[core] = 1.0
    alpha[surely_outside] = 0.0
    return alpha.astype(np.float32)


def _dot(first: Floats, second: Floats) -> Floats:
    """Scalar product over the colour channels; three times as fast as multiplying and summing."""
    return np.einsum("ijk,ijk->ij", first, second)


def _spread(picture: Floats, known: Mask, reach: int) -> tuple[Floats, Floats]:
    """Local mean colour of the known pixels (H x W x 3), and where there are any within reach (H x W, 0 or 1)."""
    weight = known.astype(np.float32)
    kernel = (4 * reach + 1, 4 * reach + 1)
    total = cv2.blur(weight, kernel)
    mean = cv2.blur(picture * weight[..., None], kernel) / np.maximum(total, 1e-6)[..., None]
    return mean, (total > 0.02).astype(np.float32)


def _grown(mask: Mask, reach: int) -> Mask:
    return cv2.dilate(mask.astype(np.uint8), _disc(reach)) > 0


def _shrunk(mask: Mask, reach: int) -> Mask:
    return cv2.erode(mask.astype(np.uint8), _disc(reach)) > 0


def _disc(reach: int) -> Bytes:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))


def clean_edge_colours(colour: Bytes, alpha: Floats, *, reach: int) -> Bytes:
    """Colours with the old background taken out of half-transparent pixels (H x W x 3 uint8, straight alpha).

    "Blur-fusion" foreground estimation, M. Forte, ICIP 2021: local means of foreground and background, corrected
    so that alpha * F + (1 - alpha) * B gives the picture back. Fully transparent pixels far from the edge are 0.
    """
    picture = colour.astype(np.float32)
    foreground, behind = picture, picture
    share = alpha[..., None]
    for size in (4 * reach + 1, reach + 1):
        kernel = (size, size)
        alpha_mean = cv2.blur(alpha, kernel)[..., None]
        foreground_mean = cv2.blur(foreground * share, kernel) / (alpha_mean + 1e-5)
        behind_mean = cv2.blur(behind * (1.0 - share), kernel) / (1.0 - alpha_mean + 1e-5)
        foreground = foreground_mean + share * (picture - behind_mean - share * (foreground_mean - behind_mean))
        np.clip(foreground, 0.0, 255.0, out=foreground)
        behind = behind_mean
    near = cv2.dilate((alpha > 0.0).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    cleaned = foreground.round().astype(np.uint8)
    opaque = alpha >= 1.0
    cleaned[opaque] = colour[opaque]
    cleaned[near == 0] = 0
    return cleaned
