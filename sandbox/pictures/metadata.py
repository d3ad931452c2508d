"""Pixels to PNG bytes that say of themselves how they were made."""

import io

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sandbox.pictures.arrays import Bytes

DISCLOSURE = "Vitrine sandbox: classical image processing, not a model"

# zlib level 1: photographs shrink hardly further at 6, and encoding would take most of the time of a scene.
_COMPRESSION_LEVEL = 1


def encode_png(pixels: Bytes) -> bytes:
    """PNG bytes of an H x W x 3 (RGB) or H x W x 4 (RGBA, straight alpha) uint8 array, with `DISCLOSURE` inside."""
    texts = PngInfo()
    for keyword in ("Software", "Description"):  # predefined keywords, PNG specification (3rd ed.), 11.3.3.1
        texts.add_text(keyword, DISCLOSURE)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=texts, compress_level=_COMPRESSION_LEVEL)
    return buffer.getvalue()
