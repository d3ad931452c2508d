"""Judges and prepares picture files: what a user sends, what a model answers, what a model is sent.

All functions are synchronous and keep no state: call them with `asyncio.to_thread`. The type is known by content, never
by name. Pixels are decoded in full once, within bounds, because only that finds a cut or damaged file; what is kept is
the file itself without its metadata (see `picture_formats`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from PIL import Image, ImageCms, ImageOps

from domain import Picture
from errors import BadPictureError
from picture_formats import CleanFile, FileBytes, damaged, jpeg, png, webp

# Pillow's own guard warns at one size and raises at twice that; a warning is of no use here. Ours stands before every
# decode: the caller's limits, and this one whatever the settings say.
Image.MAX_IMAGE_PIXELS = None
MOST_PIXELS_EVER = 200_000_000  # 800 MB as RGBA

MIN_SIDE = 64  # pixels; a product cannot be seen in less, and a model that answers with less has sent an error picture
MAX_ANSWER_PIXELS = 50_000_000  # the largest that a provider documents (Reve v2: about 4K by 4K) with room to spare
MAX_ANSWER_SIDE = 16_384

_PillowFormat = Literal["JPEG", "PNG", "WEBP"]
_MEDIA_TYPES: dict[_PillowFormat, str] = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_TURNED_SIDEWAYS = range(5, 9)  # orientations whose width and height change places when shown
_JPEG_QUALITY = 95  # no loss that a model would see


def check_upload(content: FileBytes, *, max_pixels: int, max_side: int) -> Picture:
    """The user's picture: a still JPEG, PNG or WebP that decodes whole, without metadata but for its orientation.

    `content` may be mapped from disk: then the cleaned picture is the only whole copy in memory.

    Raises:
        BadPictureError: Status 415 for another type, 413 for too many pixels, 422 for one that cannot be used.
    """
    return _check(content, max_pixels=max_pixels, max_side=max_side)[0]


def check_answer(
    content: bytes,
    *,
    max_pixels: int = MAX_ANSWER_PIXELS,
    max_side: int = MAX_ANSWER_SIDE,
    min_side: int = MIN_SIDE,
) -> Picture:
    """A model's picture, held to the rules for uploads and to be plausible: not tiny, not wholly transparent.

    Raises:
        BadPictureError: It is none.
    """
    picture, opacity = _check(content, max_pixels=max_pixels, max_side=max_side)
    if min(picture.width, picture.height) < min_side:
        raise BadPictureError(f"The picture is only {picture.width} × {picture.height} pixels.", status=422)
    if opacity == 0:
        raise BadPictureError("The picture is fully transparent.", status=422)
    return picture


def upright(content: bytes) -> tuple[bytes, str]:
    """A file and its media type that every model takes: upright, 8 bits a channel, RGB, RGBA or grey, PNG or JPEG.

    A file that is so already comes back as it is. `content` has passed `check_upload` or `check_answer`.

    Raises:
        BadPictureError: It does not decode.
    """
    pillow_format, file = _clean(content)
    if file.plain and file.orientation == 1:
        return content, _MEDIA_TYPES[pillow_format]
    with _decoded(file, pillow_format) as image:
        pixels = _as_srgb(ImageOps.exif_transpose(image))
    output = io.BytesIO()
    if pixels.mode == "RGBA" or pillow_format == "PNG":
        pixels.save(output, "PNG", compress_level=3)  # twice as fast as the default, a few percent larger
        return output.getvalue(), _MEDIA_TYPES["PNG"]
    pixels.save(output, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return output.getvalue(), _MEDIA_TYPES["JPEG"]


def _check(content: FileBytes, *, max_pixels: int, max_side: int) -> tuple[Picture, int]:
    """The picture, and the opacity of its most opaque pixel, 0 to 255."""
    pillow_format, file = _clean(content)
    _check_size(file.width, file.height, max_pixels=max_pixels, max_side=max_side)
    with _decoded(file, pillow_format) as image:
        least, most = _opacity(image)
    sideways = file.orientation in _TURNED_SIDEWAYS
    picture = Picture(
        content=file.content,
        media_type=_MEDIA_TYPES[pillow_format],
        width=file.height if sideways else file.width,
        height=file.width if sideways else file.height,
        has_alpha=least < 255,
    )
    return picture, most


def _clean(content: FileBytes) -> tuple[_PillowFormat, CleanFile]:
    if not content:
        raise BadPictureError("The file is empty.", status=422)
    if content[: len(jpeg.MAGIC)] == jpeg.MAGIC:
        return "JPEG", jpeg.clean(content)
    if content[: len(png.MAGIC)] == png.MAGIC:
        return "PNG", png.clean(content)
    if webp.is_webp(content):
        return "WEBP", webp.clean(content)
    raise BadPictureError("Only JPEG, PNG and WebP pictures are accepted.", status=415)


def _check_size(width: int, height: int, *, max_pixels: int, max_side: int) -> None:
    if width < 1 or height < 1:
        raise damaged("it has no width or no height")
    if max(width, height) > max_side:
        raise BadPictureError(
            f"The picture is {width} × {height} pixels; no side may be longer than {max_side}.", status=413
        )
    if width * height > max_pixels:
        raise BadPictureError(
            f"The picture is {width} × {height} pixels; at most {max_pixels / 1e6:g} megapixels are accepted.",
            status=413,
        )


@contextmanager
def _decoded(file: CleanFile, pillow_format: _PillowFormat) -> Iterator[Image.Image]:
    """The picture with all its pixels.

    Raises:
        BadPictureError: It does not decode, or not to the size that its header states, or the block fails on it.
    """
    _check_size(file.width, file.height, max_pixels=MOST_PIXELS_EVER, max_side=MOST_PIXELS_EVER)
    try:
        with Image.open(io.BytesIO(file.content), formats=(pillow_format,)) as image:
            if image.size != (file.width, file.height):
                raise damaged("its headers disagree about its size")
            image.load()
            yield image
    except (BadPictureError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # Pillow raises almost anything on damaged files: struct.error, KeyError, SyntaxError ...
        raise damaged("it cannot be decoded") from error


def _opacity(image: Image.Image) -> tuple[int, int]:
    """The least and the most opaque pixel, 0 to 255."""
    if not image.has_transparency_data:
        return 255, 255
    alpha = image if image.mode == "RGBA" else image.convert("RGBA")
    counts = alpha.getchannel("A").histogram()
    shown = [value for value, count in enumerate(counts) if count]
    return shown[0], shown[-1]


def _as_srgb(image: Image.Image) -> Image.Image:
    """RGBA where there is transparency, RGB otherwise, in sRGB; without metadata."""
    if image.mode.startswith("I"):  # 16 bits of grey
        image = image.convert("I").point([value >> 8 for value in range(65_536)], "L")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    profile = image.info.get("icc_profile")
    converted = _through_profile(image, profile, mode) if profile else None
    pixels = converted or image.convert(mode)
    pixels.info.clear()
    return pixels


def _through_profile(image: Image.Image, profile: bytes, mode: str) -> Image.Image | None:
    """The picture's colours taken from its own profile to sRGB; None where the profile does not fit the picture."""
    if image.mode not in ("RGB", "RGBA", "CMYK", "L"):
        image = image.convert(mode)
    try:
        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode=mode
        )
    except (ImageCms.PyCMSError, ValueError, OSError):
        return None
