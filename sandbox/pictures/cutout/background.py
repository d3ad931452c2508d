# mypy: disable-error-code="no-any-return"
"""The background without the product: what colour would this pixel have if nothing stood in front of it?

A product photograph mostly shows one surface under uneven light, sometimes a wall that meets a floor. So the
background is a low-order polynomial of the position per Lab channel, fitted robustly from the border inwards,
plus a profile over the rows (the wall-floor line) and a local correction where background is in sight.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from sandbox.pictures.arrays import Floats, floats

_GRID_LONG_SIDE = 144  # pixels; the background is smooth, so a small grid carries it and keeps the fit fast
_BORDER_SHARE = 0.06  # of the shorter side: where the fit begins, products being rarely cut by the frame
_ROUNDS = 7  # re-weighted least squares settles within five or six rounds
_POLYNOMIAL_DEGREE = 3  # vignettes and falloff; higher degrees start to follow the product
_MIN_SPREAD = floats(1.3, 0.8, 0.8)  # Lab units: JPEG noise of a clean studio background

_MARGINS_AGREE = 6.0  # Lab units; one margin alone may show a shadow or the product

_BUSY_SPREAD = 4.0  # Lab lightness units; wood grain and linen stay near 2
_BUSY_SUPPORT = 0.55  # share of the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """The estimated background at working size."""

    #: H x W x 3 float32, CIE Lab (L in 0..100).
    surface: Floats
    #: H x W x 3 float32, Lab units: the local standard deviation of the background's texture.
    spread: Floats
    #: H x W float32 in 0..1: how surely this pixel was taken for background during the fit.
    support: Floats

    @property
    def is_busy(self) -> bool:
        """Whether the surface explains the surroundings badly: it is coarse, and much of the picture lies far off."""
        return float(np.median(self.spread[..., 0])) > _BUSY_SPREAD and float(self.support.mean()) < _BUSY_SUPPORT


def estimate_background(lab: Floats) -> Background:
    """Fit the background of an H x W x 3 float32 Lab picture."""
    height, width = lab.shape[:2]
    scale = _GRID_LONG_SIDE / max(height, width)
    grid_size = (max(8, round(width * scale)), max(8, round(height * scale)))
    grid = cv2.resize(lab, grid_size, interpolation=cv2.INTER_AREA)

    surface, support, noise = _fit_polynomial(grid)
    for _ in range(2):  # each pass sees the background better and so trusts more of it
        surface = surface + _row_profile(grid - surface)
        support = _support(grid - surface, noise)
        surface = surface + _local_mean(grid - surface, support, sigma=0.06 * _GRID_LONG_SIDE, prior=0.05)
        support = _support(grid - surface, noise)

    # Grain that the small grid averaged away still counts as spread, so measure it at working size.
    full_surface = cv2.resize(surface, (width, height), interpolation=cv2.INTER_CUBIC)
    full_support = cv2.resize(support, (width, height), interpolation=cv2.INTER_LINEAR)
    # Likewise the exact place of a wall-floor line.
    full_surface = full_surface + _row_profile(lab - full_surface)
    squared = cv2.resize((lab - full_surface) ** 2, grid_size, interpolation=cv2.INTER_AREA)
    typical = np.average(squared.reshape(-1, 3), axis=0, weights=support.reshape(-1) + 1e-6)
    variance = typical + _local_mean(squared - typical, support, sigma=0.1 * _GRID_LONG_SIDE, prior=0.1)
    spread = np.maximum(np.sqrt(np.maximum(variance, 0.25 * typical)), _MIN_SPREAD)
    return Background(
        surface=full_surface,
        spread=cv2.resize(spread.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR),
        support=full_support,
    )


def _fit_polynomial(grid: Floats) -> tuple[Floats, Floats, Floats]:
    """Surface (h x w x 3), support (h x w) and noise (3) of the background on the grid."""
    height, width = grid.shape[:2]
    vertical, horizontal = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack(
        [horizontal**i * vertical**j for i in range(_POLYNOMIAL_DEGREE + 1) for j in range(_POLYNOMIAL_DEGREE + 1 - i)],
        axis=-1,
    ).reshape(-1, (_POLYNOMIAL_DEGREE + 1) * (_POLYNOMIAL_DEGREE + 2) // 2)
    values = grid.reshape(-1, 3)

    margin = max(2, round(_BORDER_SHARE * min(height, width)))
    is_border = np.ones((height, width), dtype=bool)
    is_border[margin:-margin, margin:-margin] = False
    border = is_border.reshape(-1)

    weights = border.astype(np.float32)
    ridge = 1e-3 * np.diag([0.0, *[1.0] * (terms.shape[1] - 1)]).astype(np.float32)
    noise = np.full(3, 8.0, dtype=np.float32)
    surface = values
    for round_no in range(_ROUNDS):
        weighted = terms * weights[:, None]
        normal = weighted.T @ terms / weights.sum() + ridge
        surface = terms @ np.linalg.solve(normal, weighted.T @ values / weights.sum())
        residual = values - surface
        # 1.4826 x the median absolute deviation estimates a standard deviation (Rousseeuw & Croux 1993).
        trusted = border if round_no < 3 else (border | (weights > 0.5))
        noise = np.maximum(1.4826 * np.median(np.abs(residual[trusted]), axis=0), _MIN_SPREAD)
        inlier = _support(residual, noise)
        # The border keeps a head start: the product must never win the fit by its size.
        weights = np.where(border, inlier + 0.05, inlier * min(1.0, 0.25 * round_no)).astype(np.float32)
    shape = (height, width)
    return (
        surface.reshape(*shape, 3).astype(np.float32),
        _support(values - surface, noise).reshape(shape),
        noise.astype(np.float32),
    )


def _support(residual: Floats, noise: Floats) -> Floats:
    """1 for a residual within the noise, falling to 0 beyond about four times the noise."""
    squared = ((residual / (2.5 * noise)) ** 2).sum(axis=-1)
    return np.exp(-squared).astype(np.float32)


def _row_profile(residual: Floats) -> Floats:
    """H x 1 x 3: what the left and right margin agree on, row by row: a wall that meets a floor, planks, stripes."""
    margin = max(2, round(0.12 * residual.shape[1]))
    left = np.median(residual[:, :margin], axis=1)
    right = np.median(residual[:, -margin:], axis=1)
    agree = np.linalg.norm(left - right, axis=-1, keepdims=True) < _MARGINS_AGREE
    return (np.where(agree, (left + right) / 2.0, 0.0))[:, None, :].astype(np.float32)


def _local_mean(values: Floats, support: Floats, *, sigma: float, prior: float) -> Floats:
    """Normalised convolution (Knutsson & Westin 1993): the mean over supported neighbours, 0 where there are none."""
    total = cv2.GaussianBlur(support, (0, 0), sigma)[..., None] + prior
    return (cv2.GaussianBlur(values * support[..., None], (0, 0), sigma) / total).astype(np.float32)
