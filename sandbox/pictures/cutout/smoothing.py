# mypy: disable-error-code="no-any-return"
"""Edge-aware smoothing of maps under the guidance of a picture."""

import numpy as np

from sandbox.pictures.arrays import Floats


def smooth_globally(values: Floats, guide: Floats, *, strength: float, edge_scale: float, rounds: int = 2) -> Floats:
    """Smooth an H x W x N map so that it stays even inside regions and may jump at the guide's edges.

    Minimises sum((u - v)^2) + strength * sum(w * (difference of neighbours)^2) with
    w = exp(-|guide step| / edge_scale), by alternating exact solves along rows and columns: the "fast global
    smoother" of Min, Choi, Lu, Ham, Sohn and Do, IEEE Trans. Image Processing 23 (2014).

    Args:
        values: H x W x N float32.
        guide: H x W x C float32; `edge_scale` is in its units.
        strength: Roughly the square of the reach in pixels.
        edge_scale: Guide steps well above this stop the smoothing.
        rounds: Pairs of passes; later ones remove the streaks the first leaves.
    """
    weights_along_rows = _edge_weights(guide, axis=1, edge_scale=edge_scale)
    weights_along_columns = _edge_weights(guide, axis=0, edge_scale=edge_scale)
    smoothed = values
    for round_no in range(rounds):
        # Strengths that shrink by four per round and add up as if solved at once (equation 13 of the paper).
        current = strength * 1.5 * 4.0 ** (rounds - 1 - round_no) / (4.0**rounds - 1.0)
        smoothed = _solve_lines(smoothed.transpose(1, 0, 2), current * weights_along_rows.T).transpose(1, 0, 2)
        smoothed = _solve_lines(smoothed, current * weights_along_columns)
    return np.ascontiguousarray(smoothed)


def _edge_weights(guide: Floats, *, axis: int, edge_scale: float) -> Floats:
    step = np.diff(guide, axis=axis)
    return np.exp(-np.sqrt(np.einsum("ijk,ijk->ij", step, step)) / edge_scale).astype(np.float32)


def _solve_lines(values: Floats, weights: Floats) -> Floats:
    """Solve (I + D'WD) u = v along axis 0 for every line at once (Thomas algorithm for tridiagonal systems).

    `values` is N x M x C; `weights` is (N - 1) x M, the coupling of each pixel to the next.
    """
    count = values.shape[0]
    weights = np.ascontiguousarray(weights)[..., None]
    solution = np.array(values, dtype=np.float32, order="C")
    factors = np.empty_like(weights)
    pivot = 1.0 + weights[0]
    solution[0] /= pivot
    for index in range(1, count):
        before = weights[index - 1]
        factors[index - 1] = before / pivot
        pivot = 1.0 + before - before * factors[index - 1]
        if index < count - 1:
            pivot = pivot + weights[index]
        solution[index] += before * solution[index - 1]
        solution[index] /= pivot
    for index in range(count - 2, -1, -1):
        solution[index] += factors[index] * solution[index + 1]
    return solution
