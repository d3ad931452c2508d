"""A name for a picture that survives the removal of its metadata.

The product strips metadata from what it stores, so the cut-out that comes back as the input of a scene is not the
file that was sent out byte for byte. The fingerprint covers only what makes the pixels.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = {b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"pHYs", b"iCCP", b"gAMA", b"cHRM", b"sRGB"}
_JPEG_START_OF_SCAN = 0xDA
_JPEG_COMMENT = 0xFE
_JPEG_APPLICATION = range(0xE0, 0xF0)


@functools.lru_cache(maxsize=8)  # a ready-made picture is asked for again and again
def of_picture(content: bytes) -> str:
    """sha256, in hex, of a picture file without its metadata; of the whole file where the format is another one."""
    digest = hashlib.sha256()
    if content.startswith(_PNG_SIGNATURE):
        parts = _png_parts(content)
    elif content.startswith(b"\xff\xd8"):
        parts = _jpeg_parts(content)
    else:
        parts = iter([content])
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _png_parts(content: bytes) -> Iterator[bytes]:
    """Chunks that are not metadata (PNG specification, 5.3: length, type, data, checksum)."""
    at = len(_PNG_SIGNATURE)
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4])
        if content[at + 4 : at + 8] not in _PNG_METADATA:
            yield content[at:end]
        at = end


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    """Segments that are not metadata, then everything from the scan on (ITU-T T.81, B.1.1.4)."""
    at = 2
    while at + 4 <= len(content):
        marker = content[at + 1]
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4])
        if content[at] != 0xFF or marker == _JPEG_START_OF_SCAN:
            break
        if marker not in _JPEG_APPLICATION and marker != _JPEG_COMMENT:
            yield content[at:end]
        at = end
    yield content[at:]
