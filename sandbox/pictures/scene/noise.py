"""Procedural noise: the raw stuff of every texture. All maps are float32 and deterministic by their generator."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Floats


def value_noise(random: np.random.Generator, shape: tuple[int, int], cells: tuple[float, float]) -> Floats:
    """Smooth noise of mean 0 and deviation about 0.6, `cells` lumps high and wide."""
    rows, columns = max(2, round(cells[0])) + 3, max(2, round(cells[1])) + 3
    lattice = random.standard_normal((rows, columns), dtype=np.float32)
    height, width = shape
    # Enlarge a little too far and cut: the resize repeats its edge values, which would show as flat rims.
    enlarged = cv2.resize(
        lattice,
        (round(width * columns / (columns - 3)) + 1, round(height * rows / (rows - 3)) + 1),
        interpolation=cv2.INTER_CUBIC,
    )
    top, left = (enlarged.shape[0] - height) // 2, (enlarged.shape[1] - width) // 2
    return np.ascontiguousarray(enlarged[top : top + height, left : left + width])


def fractal_noise(
    random: np.random.Generator,
    shape: tuple[int, int],
    *,
    cells: tuple[float, float],
    octaves: int,
    persistence: float = 0.5,
) -> Floats:
    """Octaves of value noise (fractional Brownian motion), scaled to a deviation of about 0.5."""
    total = np.zeros(shape, dtype=np.float32)
    amplitude, energy = 1.0, 0.0
    for octave in range(octaves):
        factor = 2.0**octave
        total += amplitude * value_noise(random, shape, (cells[0] * factor, cells[1] * factor))
        energy += amplitude**2
        amplitude *= persistence
    return total * np.float32(0.8 / np.sqrt(energy))


def grain(random: np.random.Generator, shape: tuple[int, int], *, blur: float = 0.0) -> Floats:
    """White noise of deviation 1; `blur` (pixels) makes lumps, keeping the deviation."""
    noise: Floats = random.standard_normal(shape, dtype=np.float32)
    if blur > 0.0:
        noise = cv2.GaussianBlur(noise, (0, 0), blur)
        noise = noise * np.float32(2.0 * np.sqrt(np.pi) * blur)
    return noise


def warp(values: Floats, shift_x: Floats, shift_y: Floats) -> Floats:
    """`values` read at positions shifted by the given numbers of pixels, mirrored at the frame."""
    height, width = values.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    return cv2.remap(values, columns + shift_x, rows + shift_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def cells(random: np.random.Generator, shape: tuple[int, int], *, count: int) -> Floats:
    """Distance in pixels to the nearest of `count` scattered points: pebbles, pores, leather."""
    height, width = shape
    field = np.full(shape, 255, dtype=np.uint8)
    field[random.integers(0, height, count), random.integers(0, width, count)] = 0
    return cv2.distanceTransform(field, cv2.DIST_L2, 3)
