"""WebP: keep the picture, its alpha and its colour profile. Source: RFC 9649."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from picture_formats import CleanFile, FileBytes, animated, damaged, truncated
from picture_formats.exif import UPRIGHT, minimal_exif, orientation_in

_HAS_PROFILE, _HAS_ALPHA, _HAS_EXIF, _IS_ANIMATED = 0x20, 0x10, 0x08, 0x02
_MAX_CHUNKS = 1_000


def is_webp(content: FileBytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def clean(content: FileBytes) -> CleanFile:
    """The file without metadata.

    Raises:
        BadPictureError: The structure is broken, the end is missing, or it is animated.
    """
    chunks: dict[bytes, bytes] = {}
    for name, body in _chunks(content):
        if name in (b"ANIM", b"ANMF"):
            raise animated()
        chunks.setdefault(name, body)
    pixels = next((name for name in (b"VP8 ", b"VP8L") if name in chunks), None)
    if pixels is None:
        raise damaged("it has no pixels")
    width, height = _lossy_size(chunks[pixels]) if pixels == b"VP8 " else _lossless_size(chunks[pixels])
    orientation = orientation_in(chunks.get(b"EXIF", b"").removeprefix(b"Exif\x00\x00"))
    extended = chunks.get(b"VP8X")
    if extended is None:  # the simple form: one chunk, nothing else counts
        return _file([(pixels, chunks[pixels])], width, height, UPRIGHT)
    if len(extended) < 10:
        raise damaged("its header is too short")
    if extended[0] & _IS_ANIMATED:
        raise animated()
    canvas = tuple(int.from_bytes(extended[at : at + 3], "little") + 1 for at in (4, 7))
    if canvas != (width, height):
        raise damaged("its headers disagree about its size")
    flags = extended[0] & _HAS_ALPHA
    parts: list[tuple[bytes, bytes]] = []
    if b"ICCP" in chunks:
        flags |= _HAS_PROFILE
        parts.append((b"ICCP", chunks[b"ICCP"]))
    if b"ALPH" in chunks and pixels == b"VP8 ":
        parts.append((b"ALPH", chunks[b"ALPH"]))
    parts.append((pixels, chunks[pixels]))
    if orientation != UPRIGHT:
        flags |= _HAS_EXIF
        parts.append((b"EXIF", minimal_exif(orientation)))
    return _file([(b"VP8X", bytes([flags, 0, 0, 0]) + extended[4:10]), *parts], width, height, orientation)


def _chunks(content: FileBytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of each chunk within the length that the file's header states; what follows is never read."""
    if len(content) < 20:
        raise truncated()
    (length,) = struct.unpack_from("<I", content, 4)
    end = 8 + length
    if end > len(content) + 1:  # some writers leave out the last padding byte
        raise truncated()
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            return
        name, size = struct.unpack_from("<4sI", content, position)
        start = position + 8
        if start + size > min(end, len(content)):
            raise truncated()
        yield name, content[start : start + size]
        position = start + size + size % 2
    raise damaged("it has too many parts")


def _lossy_size(body: bytes) -> tuple[int, int]:
    if len(body) < 10 or body[3:6] != b"\x9d\x01\x2a":
        raise damaged("its header is wrong")
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(body: bytes) -> tuple[int, int]:
    if len(body) < 5 or body[0] != 0x2F:
        raise damaged("its header is wrong")
    bits = int.from_bytes(body[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _file(chunks: list[tuple[bytes, bytes]], width: int, height: int, orientation: int) -> CleanFile:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2) for name, data in chunks)
    return CleanFile(
        content=b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body,
        width=width,
        height=height,
        orientation=orientation,
        plain=False,  # many models do not take WebP
    )
