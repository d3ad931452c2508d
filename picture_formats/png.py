"""PNG: keep pixels, palette, transparency, colour and density. Source: W3C PNG, third edition (2025)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from picture_formats import CleanFile, FileBytes, animated, damaged, truncated
from picture_formats.exif import UPRIGHT, minimal_exif, orientation_in

MAGIC = b"\x89PNG\r\n\x1a\n"

_KEPT_ONCE = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs", b"cICP"}
_ANIMATION = {b"acTL", b"fcTL", b"fdAT"}
_PLAIN_COLOUR_TYPES = {0, 2, 6}  # grey, RGB, RGBA

#: Decompressed; display profiles are some kilobytes, and what is larger may be made to exhaust memory.
_MAX_PROFILE_BYTES = 1_000_000
_MAX_CHUNKS = 65_536


def clean(content: FileBytes) -> CleanFile:
    """The file without metadata.

    Raises:
        BadPictureError: The structure or a checksum is broken, the end is missing, or it is animated.
    """
    kept: list[bytes | memoryview] = []
    seen: set[bytes] = set()
    header: memoryview | None = None
    orientation = UPRIGHT
    first_pixels: int | None = None
    for name, body, whole in _chunks(content):
        if header is None and name != b"IHDR":
            raise damaged("its header is missing")
        if name in _ANIMATION:
            raise animated()
        if name == b"IDAT":
            if first_pixels is None:
                first_pixels = len(kept)
            kept.append(whole)
        elif name in seen:
            continue
        elif name == b"IHDR":
            header = body
            kept.append(whole)
        elif name == b"eXIf":
            orientation = orientation_in(bytes(body))
        elif name in _KEPT_ONCE and (name != b"iCCP" or _is_sound_profile(bytes(body))):
            kept.append(whole)
        seen.add(name)
    if header is None or first_pixels is None:
        raise damaged("it has no pixels")
    if len(header) != 13:
        raise damaged("its header has the wrong length")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", header)
    if orientation != UPRIGHT:
        kept.insert(first_pixels, _chunk(b"eXIf", minimal_exif(orientation)))
    return CleanFile(
        content=b"".join([MAGIC, *kept, _chunk(b"IEND", b"")]),
        width=width,
        height=height,
        orientation=orientation,
        plain=depth == 8 and colour_type in _PLAIN_COLOUR_TYPES and b"tRNS" not in seen,
    )


def _chunks(content: FileBytes) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Name, body and all bytes of each chunk up to IEND, which is left out; what follows it is never read."""
    view = memoryview(content)
    position = len(MAGIC)
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(content):
            raise truncated()
        length, name = struct.unpack_from(">I4s", content, position)
        if name == b"IEND":
            return
        end = position + 12 + length
        if end > len(content):
            raise truncated()
        body = view[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack_from(">I", content, end - 4)
        if zlib.crc32(body, zlib.crc32(name)) != checksum:
            raise damaged("a checksum is wrong")
        yield name, body, view[position:end]
        position = end
    raise damaged("it has too many parts")


def _is_sound_profile(body: bytes) -> bool:
    """Whether a colour profile decompresses within bounds; viewers do without one that does not."""
    _, _, rest = body.partition(b"\x00")
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(rest[1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return False
    return decompressor.eof


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))
