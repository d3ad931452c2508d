"""Odd files: every accepted one ends as upright 8-bit sRGB, every other one as one clear error."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sandbox.pictures import UnreadablePictureError, colourise, cut_out, render_scene, restore
from sandbox.pictures.decode import decode
from sandbox.pictures.metadata import DISCLOSURE

_SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _half_red() -> Image.Image:
    image = Image.new("RGB", (40, 20), (200, 30, 30))
    image.paste((30, 30, 200), (20, 0, 40, 20))
    return image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_eight_bit_rgb(mode: str) -> None:
    form = "TIFF" if mode in ("CMYK", "I;16", "I", "F") else "PNG"
    image = _half_red().convert("L").convert(mode) if mode in ("I;16", "I", "F") else _half_red().convert(mode)
    picture = decode(_saved(image, form))
    assert picture.colour.shape == (20, 40, 3)
    assert picture.colour.dtype == np.uint8


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(16, axis=0)
    colour = decode(_saved(Image.fromarray(ramp), "PNG")).colour
    assert 120 <= colour[8, 32, 0] <= 136
    assert colour[8, -1, 0] == 255


def test_the_orientation_in_the_file_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn a quarter clockwise to view"
    picture = decode(_saved(_half_red(), "JPEG", exif=exif.tobytes(), quality=95))
    assert picture.colour.shape == (40, 20, 3)
    assert picture.colour[5, 10, 0] > 150  # what was left is now on top
    assert picture.colour[35, 10, 2] > 150


def test_transparency_is_kept_apart_and_full_opacity_is_none() -> None:
    image = _half_red().convert("RGBA")
    assert decode(_saved(image, "PNG")).alpha is None
    image.putpixel((3, 4), (0, 0, 0, 0))
    alpha = decode(_saved(image, "PNG")).alpha
    assert alpha is not None
    assert alpha[4, 3] == 0


def test_a_palette_with_a_transparent_entry_has_alpha() -> None:
    image = _half_red().convert("P")
    assert decode(_saved(image, "PNG", transparency=image.getpixel((0, 0)))).alpha is not None


@pytest.mark.parametrize("data", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + b"\x00" * 50])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePictureError):
        decode(data)


def test_a_cut_off_file_is_refused() -> None:
    whole = (_SAMPLES / "ring.jpg").read_bytes()
    with pytest.raises(UnreadablePictureError):
        decode(whole[: len(whole) // 2])


def test_the_pixel_cap_is_checked_before_decoding() -> None:
    """A header that claims 100 MP is enough; there is no pixel data to decode at all."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(UnreadablePictureError, match="100,000,000 pixels"):
        decode(data)


def test_a_tiny_picture_is_refused() -> None:
    with pytest.raises(UnreadablePictureError, match="4 x 4"):
        decode(_saved(Image.new("RGB", (4, 4)), "PNG"))


def test_every_output_says_how_it_was_made() -> None:
    photo = _saved(_half_red().resize((120, 90)), "PNG")
    outputs = [
        cut_out(photo),
        render_scene("white marble", None, width=96, height=96, seed=1),
        restore(photo),
        colourise(photo, instruction="natural"),
    ]
    for png in outputs:
        image = Image.open(io.BytesIO(png))
        assert image.format == "PNG"
        assert image.info["Software"] == DISCLOSURE
        assert "not a model" in image.info["Description"]
