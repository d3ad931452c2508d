# mypy: disable-error-code="no-any-return"
"""Mending an old photograph: dust, scratches and creases, grain, fading and a colour cast."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Floats
from sandbox.pictures.decode import decode
from sandbox.pictures.metadata import encode_png

_MAX_DAMAGE_SHARE = 0.12  # of all pixels; more is texture taken for damage, and inpainting it would smear the picture
_GRAIN_THRESHOLD = 2.4  # 8-bit levels; clean photographs stay below 2.1


def restore(photo: bytes) -> bytes:
    """A mended copy of the photograph: PNG, RGB, same size upright.

    Raises:
        UnreadablePictureError: See `sandbox.pictures.decode`.
    """
    return encode_png(restore_pixels(decode(photo).colour))


def restore_pixels(colour: Bytes) -> Bytes:
    """Mend an H x W x 3 uint8 RGB picture."""
    cv2.setNumThreads(1)
    damage = find_damage(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY))
    mended = cv2.inpaint(colour, damage, 3, cv2.INPAINT_TELEA) if damage.any() else colour
    lab = cv2.cvtColor(mended, cv2.COLOR_RGB2LAB)
    lightness = _stretch(_remove_grain(lab[..., 0]))
    chroma = _remove_cast(lab[..., 1:])
    return cv2.cvtColor(np.dstack([lightness, chroma]), cv2.COLOR_LAB2RGB)


def find_damage(grey: Bytes) -> Bytes:
    """255 where dust, scratches or creases lie, on an H x W uint8 picture; 0 elsewhere.

    Damage is thinner than its surroundings and departs from them sharply: specks are small and compact, scratches
    long and straight. Texture has thin lines too, but hardly any that stand out this far from their own vicinity.
    """
    unit = max(1.0, max(grey.shape) / 1200.0)  # thicknesses below are given for a 1,200 pixel scan
    lines = _straight_lines(*_departure(grey, round(4 * unit)), unit)
    specks = _specks(*_departure(grey, round(8 * unit)), unit)
    damage = cv2.dilate(cv2.bitwise_or(specks, lines), np.ones((3, 3), np.uint8), iterations=max(1, round(unit)))
    if float((damage > 0).mean()) > _MAX_DAMAGE_SHARE:
        return np.zeros_like(grey)
    return damage


def _departure(grey: Bytes, reach: int) -> tuple[Floats, Floats]:
    """How far each pixel departs from the median around it: relative to its vicinity, and in 8-bit levels."""
    departure = grey.astype(np.float32) - cv2.medianBlur(grey, 2 * reach + 1).astype(np.float32)
    vicinity = cv2.blur(np.minimum(np.abs(departure), 25.0), (30 * (reach // 2) + 1,) * 2) + 1.0
    return np.abs(departure) / vicinity, departure


def _specks(contrast: Floats, departure: Floats, unit: float) -> Bytes:
    """Small compact blobs of dust, 255 where found."""
    found = np.zeros(contrast.shape, dtype=np.uint8)
    for sign in (1.0, -1.0):
        strong = ((contrast > 4.5) & (sign * departure > 22.0)).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(strong, connectivity=8)
        longest = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
        filled = stats[:, cv2.CC_STAT_AREA] / (stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT])
        is_speck = (longest <= 15 * unit) & (filled > 0.5) & (stats[:, cv2.CC_STAT_AREA] >= 3 * unit)
        is_speck[0] = False
        found[is_speck[labels]] = 255
    return found


def _straight_lines(contrast: Floats, departure: Floats, unit: float) -> Bytes:
    """Scratches and creases, 255 where found."""
    found: Bytes = np.zeros(contrast.shape, dtype=np.uint8)
    shortest = round(60 * unit)
    reach = 60.0 * unit  # a scratch fades in and out: follow it beyond both ends of what was found
    for sign in (1.0, -1.0):
        clear = ((contrast > 2.6) & (sign * departure > 9.0)).astype(np.uint8) * 255
        faint = ((contrast > 1.3) & (sign * departure > 5.0)).astype(np.uint8) * 255
        segments = cv2.HoughLinesP(
            clear, 1, np.pi / 360, threshold=shortest // 2, minLineLength=shortest, maxLineGap=round(12 * unit)
        )
        if segments is None:
            continue
        ruler: Bytes = np.zeros(contrast.shape, dtype=np.uint8)
        for left, top, right, bottom in segments.reshape(-1, 4).astype(float).tolist():
            length = max(float(np.hypot(right - left, bottom - top)), 1.0)
            step_x, step_y = reach * (right - left) / length, reach * (bottom - top) / length
            start = (round(left - step_x), round(top - step_y))
            end = (round(right + step_x), round(bottom + step_y))
            cv2.line(ruler, start, end, 255, max(3, round(3 * unit)))
        found = cv2.bitwise_or(found, ruler & cv2.dilate(faint, np.ones((3, 3), np.uint8)))
    return found


def _remove_grain(lightness: Bytes) -> Bytes:
    """Non-local means (Buades, Coll, Morel, CVPR 2005) as strong as the grain measured in the picture."""
    # Smooth places show the grain alone: the quieter quarter of the picture tells its deviation.
    # (Laplacian estimators miss the grain of a scan, which the lens and JPEG have blurred.)
    values = lightness.astype(np.float32)
    variance = cv2.blur(values * values, (9, 9)) - cv2.blur(values, (9, 9)) ** 2
    deviation = float(np.sqrt(max(np.quantile(variance, 0.25), 0.0)))
    if deviation < _GRAIN_THRESHOLD:
        return lightness
    strength = 1.15 * deviation  # best structural similarity on scans with known originals
    return cv2.fastNlMeansDenoising(lightness, None, h=strength, templateWindowSize=7, searchWindowSize=15)


def _stretch(lightness: Bytes) -> Bytes:
    """Fading undone: the darkest and brightest half percent become nearly black and nearly white."""
    low, high = np.quantile(lightness[::2, ::2], (0.005, 0.995))
    if high - low < 16.0:  # an empty picture: stretching would only amplify its noise
        return lightness
    levels = np.arange(256, dtype=np.float32)
    table = np.clip((levels - low) / (high - low), 0.0, 1.0) * 247.0 + 4.0
    return cv2.LUT(lightness, table.round().astype(np.uint8))


def _remove_cast(chroma: Bytes) -> Bytes:
    """Lab a and b (uint8, 128 = neutral) without a cast; a picture of one hue (sepia) becomes neutral grey."""
    centred = chroma.astype(np.float32) - 128.0
    cast = np.median(centred.reshape(-1, 2)[::7], axis=0)
    variety = float(np.mean(np.abs(centred.reshape(-1, 2)[::7] - cast)))
    if variety < 4.0:  # 8-bit Lab units: nothing but the tone of the paper
        return np.full_like(chroma, 128)
    return np.clip(centred - 0.6 * cast + 128.0, 0, 255).round().astype(np.uint8)
