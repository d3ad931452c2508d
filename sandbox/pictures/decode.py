"""Bytes to pixels: every accepted file ends as upright 8-bit sRGB, whatever it was stored as.

Handled on the way: the EXIF orientation, an embedded colour profile, CMYK, 16-bit and floating point grey,
palettes, and transparency. The size is read from the header and checked before anything is decoded.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageOps

from sandbox.pictures.arrays import Bytes

MAX_PIXELS = 50_000_000  # a decoded 50 MP picture takes 150 MB, about what one pool process may hold
MIN_SIDE = 8  # pixels; below this there is no picture to speak of
ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# What Pillow's decoders raise on damaged or hostile input (UnidentifiedImageError is an OSError).
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class UnreadablePictureError(ValueError):
    """The bytes are no picture we can work on: not an image, damaged, too large or too small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A decoded picture, EXIF orientation applied."""

    #: H x W x 3 uint8, sRGB, channels in the order red, green, blue.
    colour: Bytes
    #: H x W uint8, 255 = opaque; None when the file has no transparent pixel.
    alpha: Bytes | None


def decode(data: bytes) -> Picture:
    """Decode an image file.

    Raises:
        UnreadablePictureError: Not a picture in an accepted format, damaged, over `MAX_PIXELS`, or tiny.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of sizes and damaged EXIF; we check the size ourselves
            with Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS) as image:
                _check_size(image.width, image.height)
                return _to_picture(ImageOps.exif_transpose(image))
    except UnreadablePictureError:
        raise
    except _DECODER_ERRORS as error:
        raise UnreadablePictureError("the picture cannot be decoded") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadablePictureError(f"the picture has {width * height:,} pixels; at most {MAX_PIXELS:,} are accepted")
    if min(width, height) < MIN_SIDE:
        raise UnreadablePictureError(f"the picture is {width} x {height}; each side needs {MIN_SIDE} pixels or more")


def _to_picture(image: Image.Image) -> Picture:
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if image.mode.startswith("I") or image.mode == "F":
        image = _grey_to_8_bit(image)
    if not has_alpha:
        return Picture(colour=np.array(_to_srgb(image)), alpha=None)
    rgba = np.array(image.convert("RGBA"))
    alpha = np.ascontiguousarray(rgba[..., 3])
    return Picture(colour=np.ascontiguousarray(rgba[..., :3]), alpha=None if bool((alpha == 255).all()) else alpha)


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating point grey to 8 bits; Pillow's own `convert` would clip it."""
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
    brightest = float(grey.max(initial=0.0))
    full_scale = next((scale for scale in (1.0, 255.0, 65535.0) if brightest <= scale), brightest)
    return Image.fromarray((grey.clip(0.0) * (255.0 / full_scale)).round().astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:
            converted = ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a broken profile: the plain conversion below is the best guess left
        if converted is not None:
            return converted
    return image.convert("RGB")
