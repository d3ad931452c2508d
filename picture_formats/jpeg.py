"""JPEG: keep what decodes the picture, JFIF's density, the colour profile and Adobe's colour note.

Source: ITU-T T.81 (JPEG), annex B; T.871 (JFIF); ICC.1 annex B.4 (profiles in APP2).
"""

from __future__ import annotations

import re
import struct

from errors import BadPictureError
from picture_formats import CleanFile, FileBytes, damaged, truncated
from picture_formats.exif import UPRIGHT, minimal_exif, orientation_in

MAGIC = b"\xff\xd8\xff"

_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
_APP0, _APP1, _APP2, _APP14 = 0xE0, 0xE1, 0xE2, 0xEE
_SOS = 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD8)}  # TEM and restart markers have no body
_FRAME_HEADERS = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without DHT, JPG and DAC
_TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}  # DHT, DAC, DQT, DNL, DRI

#: Ends the coded pixels: a marker that is neither a stuffed zero nor a restart.
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")

#: Each scan of a progressive file decodes all pixels again; real files have about ten, hostile ones thousands.
_MAX_SCANS = 100
_MAX_SEGMENTS = 10_000


def clean(content: FileBytes) -> CleanFile:
    """The file without metadata.

    Raises:
        BadPictureError: The structure is broken, or the end of the picture is missing.
    """
    kept: list[bytes | memoryview] = []  # the coded pixels are views: no copy is made before the last one
    orientation = UPRIGHT
    frame: bytes | None = None
    scans = 0
    position = len(_SOI)
    for _ in range(_MAX_SEGMENTS):
        marker, position = _marker_at(content, position)
        if marker == _EOI[1]:
            if frame is None or not scans:
                raise damaged("it has no pixels")
            return _assemble(kept, frame, orientation)
        if marker in _STANDALONE:
            continue
        body, position = _body_at(content, position)
        if marker in _FRAME_HEADERS:
            if frame is not None:
                raise damaged("it has two headers")
            frame = body
            kept.append(_segment(marker, body))
        elif marker == _SOS:
            scans += 1
            if scans > _MAX_SCANS:
                raise BadPictureError(f"The picture has more than {_MAX_SCANS} scans.", status=422)
            start, position = position, _end_of_scan(content, position)
            kept += [_segment(marker, body), memoryview(content)[start:position]]
        elif marker in _TABLES:
            kept.append(_segment(marker, body))
        elif marker == _APP1 and body.startswith(b"Exif\x00\x00") and orientation == UPRIGHT:
            orientation = orientation_in(body[6:])
        else:
            kept += _wanted(marker, body)
    raise damaged("it has too many parts")


def _wanted(marker: int, body: bytes) -> list[bytes]:
    if marker == _APP0 and body.startswith(b"JFIF\x00") and len(body) >= 14:
        return [_segment(marker, body[:12] + b"\x00\x00")]  # without the thumbnail that may follow
    if marker == _APP2 and body.startswith(b"ICC_PROFILE\x00"):
        return [_segment(marker, body)]
    if marker == _APP14 and body.startswith(b"Adobe"):
        return [_segment(marker, body[:12])]
    return []


def _assemble(kept: list[bytes | memoryview], frame: bytes, orientation: int) -> CleanFile:
    if len(frame) < 6:
        raise damaged("its header is too short")
    precision, height, width, channels = struct.unpack_from(">BHHB", frame)
    exif = [_segment(_APP1, b"Exif\x00\x00" + minimal_exif(orientation))] if orientation != UPRIGHT else []
    after_jfif = 1 if kept[0][:2] == b"\xff\xe0" else 0  # JFIF wants to be first
    return CleanFile(
        content=b"".join([_SOI, *kept[:after_jfif], *exif, *kept[after_jfif:], _EOI]),
        width=width,
        height=height,
        orientation=orientation,
        plain=precision == 8 and channels in (1, 3),
    )


def _marker_at(content: FileBytes, position: int) -> tuple[int, int]:
    """The marker at `position`, which fill bytes may precede, and where its body starts."""
    if position >= len(content):
        raise truncated()
    if content[position] != 0xFF:
        raise damaged("a part of it is out of place")
    while position < len(content) and content[position] == 0xFF:
        position += 1
    if position >= len(content):
        raise truncated()
    return content[position], position + 1


def _body_at(content: FileBytes, position: int) -> tuple[bytes, int]:
    if position + 2 > len(content):
        raise truncated()
    (length,) = struct.unpack_from(">H", content, position)
    if length < 2:
        raise damaged("a part of it has no length")
    end = position + length
    if end > len(content):
        raise truncated()
    return content[position + 2 : end], end


def _end_of_scan(content: FileBytes, position: int) -> int:
    found = _NEXT_MARKER.search(content, position)
    if found is None:
        raise truncated()
    return found.start()


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
