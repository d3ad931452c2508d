"""Picture files for the tests: sound ones, secretive ones, and the pieces of hostile ones."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from domain import Picture
from pictures import check_upload

GPS_TAG, ORIENTATION_TAG, MAKE_TAG = 0x8825, 0x0112, 0x010F
NOWHERE = b"Null Island"


def checked(content: bytes, *, max_pixels: int = 32_000_000, max_side: int = 8192) -> Picture:
    return check_upload(content, max_pixels=max_pixels, max_side=max_side)


def drawing(width: int = 96, height: int = 64, mode: str = "RGB") -> Image.Image:
    """A picture whose corners and edges all differ, so that a wrong turn shows."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height))
    down = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge("RGB", (across, down, Image.new("L", (width, height), 90)))
    if mode == "RGBA":
        picture.putalpha(down)
        return picture
    return picture.convert(mode)


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def exif(orientation: int = 1) -> Image.Exif:
    tags = Image.Exif()
    tags[MAKE_TAG] = "Camera " + NOWHERE.decode()
    tags[ORIENTATION_TAG] = orientation
    tags[GPS_TAG] = {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)}
    return tags


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_with(chunks: bytes, content: bytes | None = None) -> bytes:
    """A PNG with more chunks right behind its header."""
    content = content or encoded(drawing(), "PNG")
    return content[:33] + chunks + content[33:]


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_with(segments: bytes, content: bytes | None = None) -> bytes:
    content = content or encoded(drawing(), "JPEG")
    return content[:2] + segments + content[2:]


def secretive(file_format: str) -> bytes:
    """A picture with the place in every corner that holds text."""
    if file_format == "PNG":
        texts = PngInfo()
        texts.add_text("Comment", NOWHERE.decode())
        texts.add_itxt("XML:com.adobe.xmp", f"<x:xmpmeta>{NOWHERE.decode()}</x:xmpmeta>")
        content = encoded(drawing(), "PNG", exif=exif(), pnginfo=texts, dpi=(300, 300))
        return png_with(png_chunk(b"tIME", bytes(7)) + png_chunk(b"prVt", NOWHERE), content)
    options = {"exif": exif(), "xmp": b"<x:xmpmeta>" + NOWHERE + b"</x:xmpmeta>"}
    if file_format == "WEBP":
        return encoded(drawing(mode="RGBA"), "WEBP", **options)
    thumbnail = jpeg_segment(0xE0, b"JFXX\x00\x10" + NOWHERE)
    photoshop = jpeg_segment(0xED, b"Photoshop 3.0\x00" + NOWHERE)
    more_pictures = jpeg_segment(0xE2, b"MPF\x00" + NOWHERE)
    content = encoded(drawing(), "JPEG", comment=NOWHERE, dpi=(300, 300), **options)
    return jpeg_with(thumbnail + photoshop + more_pictures, content)
