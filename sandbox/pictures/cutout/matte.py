"""From the mask at working size to a soft alpha and clean edge colours at the picture's own size."""

import cv2
import numpy as np
import numpy.typing as npt

from sandbox.pictures.cutout.smoothing import guided_filter

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

MAX_MATTE_PIXELS = 2_500_000  # soft edges are solved at this size at most; alpha is enlarged beyond it


def refine_alpha(colour: Bytes, mask: Mask) -> Floats:
    """Alpha (H x W float32, 0..1) of an H x W x 3 RGB picture from a mask at any smaller size.

    Only a narrow band along the mask's outline is soft: inside it is 1, outside 0.
    """
    height, width = colour.shape[:2]
    scale = max(1.0, width / mask.shape[1])
    coarse = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    coarse = cv2.GaussianBlur(coarse, (0, 0), 0.5 * scale)
    radius = max(2, round(1.5 * scale))
    best = np.zeros((height, width), dtype=np.float32)
    guide = _most_telling_grey(colour, coarse)
    best = guided_filter(guide, coarse, radius=radius, epsilon=1e-4)
    alpha = np.clip((best - 0.5) * 1.8 + 0.5, 0.0, 1.0)
    band = 2 * radius + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (band, band))
    hard = (coarse > 0.5).astype(np.uint8)
    alpha[cv2.dilate(hard, disc) == 0] = 0.0
    alpha[cv2.erode(hard, disc) == 1] = 1.0
    return alpha.astype(np.float32)


def _most_telling_grey(colour: Bytes, coarse: Floats) -> Floats:
    """The picture projected on the colour axis that best parts product from background (Fisher's discriminant)."""
    pixels = colour[::4, ::4].reshape(-1, 3).astype(np.float32) / 255.0
    inside = coarse[::4, ::4].reshape(-1) > 0.5
    if inside.sum() < 10 or (~inside).sum() < 10:
        axis = np.float32([0.299, 0.587, 0.114])
    else:
        scatter = np.cov(pixels[inside].T) + np.cov(pixels[~inside].T) + 1e-3 * np.eye(3)
        axis = np.linalg.solve(scatter, pixels[inside].mean(axis=0) - pixels[~inside].mean(axis=0))
    axis = (axis / (np.abs(axis).sum() + 1e-9)).astype(np.float32)
    grey = cv2.transform(colour, axis.reshape(1, 3).astype(np.float64)) if False else colour.astype(np.float32) @ axis
    low, high = np.quantile(grey[::4, ::4], (0.01, 0.99))
    return ((grey - low) / max(float(high - low), 1e-3)).clip(0.0, 1.0).astype(np.float32)


def clean_edge_colours(colour: Bytes, alpha: Floats, *, reach: int) -> Bytes:
    """Colours with the old background taken out of half-transparent pixels (H x W x 3 uint8, straight alpha).

    "Blur-fusion" foreground estimation, M. Forte, ICIP 2021: local means of foreground and background, corrected
    so that alpha * F + (1 - alpha) * B gives the picture back. Fully transparent pixels far from the edge are 0.
    """
    picture = colour.astype(np.float32)
    foreground, behind = picture, picture
    for size in (4 * reach + 1, reach + 1):
        kernel = (size, size)
        alpha_mean = cv2.blur(alpha, kernel)[..., None]
        foreground_mean = cv2.blur(foreground * alpha[..., None], kernel) / (alpha_mean + 1e-5)
        behind_mean = cv2.blur(behind * (1.0 - alpha[..., None]), kernel) / (1.0 - alpha_mean + 1e-5)
        mixed = alpha[..., None] * foreground_mean + (1.0 - alpha[..., None]) * behind_mean
        foreground = np.clip(foreground_mean + alpha[..., None] * (picture - mixed), 0.0, 255.0)
        behind = behind_mean
    near = cv2.dilate((alpha > 0.0).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    cleaned = np.where((alpha >= 1.0)[..., None], colour, foreground.round().astype(np.uint8))
    cleaned[near == 0] = 0
    return cleaned
