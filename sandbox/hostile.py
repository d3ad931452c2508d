"""Bodies that no client should take for a picture."""

from __future__ import annotations

import functools
import io
import struct
import zlib

from PIL import Image

HTML_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
RUBBISH = bytes(value * 73 % 251 for value in range(4096))
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def wrong_bytes(kind: str) -> bytes:
    """kind: html, type, garbage, or broken (a true PNG header, then nothing that could be decoded)."""
    header = struct.pack(">IIBBBBB", 1024, 1024, 8, 2, 0, 0, 0)
    broken = _PNG_SIGNATURE + _chunk(b"IHDR", header) + RUBBISH
    return {"html": HTML_PAGE.encode(), "type": PDF, "garbage": RUBBISH, "broken": broken}[kind]


def degenerate(kind: str, source: bytes | None, size: tuple[int, int]) -> bytes:
    """A picture that decodes and is worth nothing: tiny, transparent (of `size`, pixels), or the input itself."""
    if kind == "input" and source is not None:
        return source
    picture = Image.new("RGBA", (1, 1) if kind == "tiny" else size, (0, 0, 0, 0))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@functools.cache
def decompression_bomb(side: int) -> bytes:
    """A sound PNG, small as a file, of side x side black pixels."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)  # filter type 0, then one bit a pixel
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return _PNG_SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


@functools.cache
def grey_picture() -> bytes:
    """What Reve answers in raw mode in place of an error."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
    return file.getvalue()


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
