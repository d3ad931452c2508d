"""Mending an old photograph: dust, scratches and creases, grain, fading and a colour cast."""

import cv2
import numpy as np
import numpy.typing as npt

from sandbox.pictures.decode import decode
from sandbox.pictures.metadata import encode_png

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_MAX_DAMAGE_SHARE = 0.08  # of all pixels; more is texture taken for damage, and inpainting it would smear the picture


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
    window = 2 * round(4 * unit) + 1
    departure = grey.astype(np.float32) - cv2.medianBlur(grey, window).astype(np.float32)
    vicinity = cv2.blur(np.minimum(np.abs(departure), 25.0), (int(60 * unit) | 1,) * 2) + 1.0
    contrast = np.abs(departure) / vicinity
    specks = _specks(contrast, departure, unit)
    lines = _straight_lines(contrast, departure, unit)
    damage = cv2.dilate(specks | lines, np.ones((3, 3), np.uint8), iterations=max(1, round(unit)))
    if float((damage > 0).mean()) > _MAX_DAMAGE_SHARE:
        return np.zeros_like(grey)
    return damage


def _specks(contrast: Floats, departure: Floats, unit: float) -> Bytes:
    """Small compact blobs of dust, 255 where found."""
    found = np.zeros(contrast.shape, dtype=np.uint8)
    for sign in (1.0, -1.0):
        strong = ((contrast > 4.5) & (sign * departure > 22.0)).astype(np.uint8)
        count, labels, stats, _ = cv2.connectedComponentsWithStats(strong, connectivity=8)
        longest = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
        filled = stats[:, cv2.CC_STAT_AREA] / (stats[:, cv2.CC_STAT_WIDTH] * stats[:, cv2.CC_STAT_HEIGHT])
        is_speck = (longest <= 12 * unit) & (filled > 0.5) & (stats[:, cv2.CC_STAT_AREA] >= 3 * unit)
        is_speck[0] = False
        found[is_speck[labels]] = 255
    return found


def _straight_lines(contrast: Floats, departure: Floats, unit: float) -> Bytes:
    """Scratches and creases, 255 where found."""
    found = np.zeros(contrast.shape, dtype=np.uint8)
    shortest = round(55 * unit)
    for sign in (1.0, -1.0):
        candidate = ((contrast > 2.6) & (sign * departure > 9.0)).astype(np.uint8) * 255
        segments = cv2.HoughLinesP(
            candidate, 1, np.pi / 360, threshold=shortest // 2, minLineLength=shortest, maxLineGap=round(6 * unit)
        )
        if segments is None:
            continue
        ruler = np.zeros(contrast.shape, dtype=np.uint8)
        for left, top, right, bottom in segments.reshape(-1, 4).tolist():
            cv2.line(ruler, (left, top), (right, bottom), 255, max(3, round(3 * unit)))
        found |= ruler & cv2.dilate(candidate, np.ones((3, 3), np.uint8))
    return found


def _remove_grain(lightness: Bytes) -> Bytes:
    """Non-local means (Buades, Coll, Morel, CVPR 2005) as strong as the grain measured in the picture."""
    # Median absolute Laplacian response -> noise deviation, after Immerkaer, CVIU 64 (1996).
    kernel = np.float32([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    response = cv2.filter2D(lightness.astype(np.float32), -1, kernel)
    deviation = float(np.median(np.abs(response))) / (0.6745 * 6.0)
    if deviation < 1.5:
        return lightness
    return cv2.fastNlMeansDenoising(lightness, None, h=0.9 * deviation, templateWindowSize=5, searchWindowSize=11)


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
