"""Cutting the product out of its photograph."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Mask
from sandbox.pictures.cutout.background import estimate_background
from sandbox.pictures.cutout.evidence import gather_evidence
from sandbox.pictures.cutout.graphcut import cut_within_hull
from sandbox.pictures.cutout.matte import MAX_MATTE_PIXELS, clean_edge_colours, refine_alpha
from sandbox.pictures.cutout.segment import segment
from sandbox.pictures.decode import decode
from sandbox.pictures.metadata import encode_png

_WORKING_LONG_SIDE = 720  # pixels; wires of two pixels in a 1,400 pixel photograph still show


def cut_out(photo: bytes) -> bytes:
    """The product alone: an RGBA PNG (straight alpha) as large as the upright photograph.

    Raises:
        UnreadablePictureError: See `sandbox.pictures.decode`.
    """
    return encode_png(cut_out_pixels(decode(photo).colour))


def cut_out_pixels(colour: Bytes) -> Bytes:
    """H x W x 4 uint8 RGBA from H x W x 3 uint8 RGB."""
    cv2.setNumThreads(1)  # the server already runs one process per core
    height, width = colour.shape[:2]
    mask = working_mask(colour)
    rows, columns = _surroundings(mask, colour.shape[:2])
    part = colour[rows, columns]
    mask_rows, mask_columns = _scaled(rows, mask.shape[0] / height), _scaled(columns, mask.shape[1] / width)

    shrink = min(1.0, (MAX_MATTE_PIXELS / (part.shape[0] * part.shape[1])) ** 0.5)
    part_size = (part.shape[1], part.shape[0])
    small = part if shrink == 1.0 else cv2.resize(part, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    alpha = refine_alpha(small, mask[mask_rows, mask_columns])
    cleaned = clean_edge_colours(small, alpha, reach=max(2, round(max(small.shape) / 300)))
    alpha_bytes: Bytes = (alpha * 255.0).round().astype(np.uint8)
    if shrink < 1.0:
        alpha_bytes = cv2.resize(alpha_bytes, part_size, interpolation=cv2.INTER_LINEAR)
        cleaned = cv2.resize(cleaned, part_size, interpolation=cv2.INTER_LINEAR)
        cleaned = np.where((alpha_bytes == 255)[..., None], part, cleaned)
    rgba = np.zeros((height, width, 4), dtype=np.uint8)
    rgba[rows, columns] = np.dstack([cleaned, alpha_bytes])
    return rgba


def _surroundings(mask: Mask, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The full-size rows and columns around the mask, with a margin for the soft edge, in whole mask pixels."""
    slices = []
    for axis, full in zip((1, 0), shape, strict=True):
        occupied = np.flatnonzero(mask.any(axis=axis))
        size = mask.shape[1 - axis]
        first, last = max(0, int(occupied[0]) - 16), min(size, int(occupied[-1]) + 17)
        slices.append(slice(round(first * full / size), round(last * full / size)))
    return slices[0], slices[1]


def _scaled(extent: slice, factor: float) -> slice:
    return slice(round(extent.start * factor), round(extent.stop * factor))


def working_mask(colour: Bytes) -> Mask:
    """The hard mask (h x w bool) of an H x W x 3 uint8 RGB picture, its long side at most 720 pixels."""
    shrink = min(1.0, _WORKING_LONG_SIDE / max(colour.shape[:2]))
    small = cv2.resize(colour, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    background = estimate_background(lab)
    mask = segment(lab, gather_evidence(lab, background))
    return cut_within_hull(small, mask) if background.is_busy else mask
