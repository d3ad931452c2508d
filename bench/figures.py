"""The arithmetic behind every figure. Units: seconds unless the name says otherwise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

CUTOUT_S = 0.2  # what the sandbox takes for a cut-out
SCENE_S = 0.5  # and for each of the four scenes, which are made at the same time
PICTURES = 5  # bought for a product
CRITICAL_PATH_S = CUTOUT_S + SCENE_S


def ideal_s(products: int, concurrency: int) -> float:
    """The least that `products` can take when `concurrency` of them are under way and only the providers take time."""
    return math.ceil(products / concurrency) * CRITICAL_PATH_S


def efficiency(products: int, concurrency: int, wall_s: float) -> float:
    """1: nothing but the providers took time."""
    return ideal_s(products, concurrency) / wall_s


def overhead_ratio(wall_s: float) -> float:
    """How much longer one product takes than the providers' critical path; 0.1 is a tenth longer."""
    return wall_s / CRITICAL_PATH_S - 1


def per_minute(products: int, wall_s: float) -> float:
    return 60 * products / wall_s


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed: always one that was measured."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """The distance from the least to the greatest value as a share of the median: how far repeats disagree."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0
