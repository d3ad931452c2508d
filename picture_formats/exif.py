"""The one Exif tag that matters for showing a picture: its orientation. Source: CIPA DC-008-2019 and TIFF 6.0."""

from __future__ import annotations

import struct

UPRIGHT = 1
_ORIENTATION_TAG = 0x0112
_SHORT = 3
_ENTRY_BYTES = 12
_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}


def orientation_in(tiff: bytes) -> int:
    """The orientation, 1 to 8, in an Exif block that starts with its TIFF header; 1 where none can be read."""
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, directory)
        for index in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + index * _ENTRY_BYTES)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and count == 1 and 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT


def minimal_exif(orientation: int) -> bytes:
    """An Exif block, from its TIFF header on, that holds the orientation alone."""
    entry = struct.pack(">HHIHxx", _ORIENTATION_TAG, _SHORT, 1, orientation)
    return b"MM\x00*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
