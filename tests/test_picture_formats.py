"""What is left of a picture file, and what becomes of one that was tampered with."""

from __future__ import annotations

import itertools
import random
import struct
import warnings
import zlib

import pytest
from PIL import ImageCms, ImageOps

from errors import BadPictureError
from pictures import check_answer, upright
from tests.picture_files import (
    GPS_TAG,
    MAKE_TAG,
    NOWHERE,
    ORIENTATION_TAG,
    checked,
    drawing,
    encoded,
    exif,
    jpeg_segment,
    opened,
    secretive,
)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_no_place_no_camera_and_no_text_survives(file_format: str) -> None:
    content = secretive(file_format)
    assert NOWHERE in content
    picture = checked(content)
    assert NOWHERE not in picture.content
    tags = opened(picture.content).getexif()
    assert GPS_TAG not in tags
    assert MAKE_TAG not in tags
    plain = encoded(drawing(mode="RGBA" if file_format == "WEBP" else "RGB"), file_format)
    assert opened(picture.content).tobytes() == opened(plain).tobytes()


def test_a_jfif_thumbnail_does_not_survive() -> None:
    """It may show what was cropped away."""
    header = b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x02\x02" + bytes(12)
    content = encoded(drawing(), "JPEG")
    without = content[2 + 2 + struct.unpack_from(">H", content, 4)[0] :]
    picture = checked(content[:2] + jpeg_segment(0xE0, header) + without)
    assert picture.content[:20] == content[:2] + jpeg_segment(0xE0, header[:12] + b"\x00\x00")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_is_kept_and_the_size_is_as_shown(file_format: str, orientation: int) -> None:
    content = encoded(drawing(), file_format, exif=exif(orientation))
    picture = checked(content)
    assert opened(picture.content).getexif().get(ORIENTATION_TAG, 1) == orientation
    shown = ImageOps.exif_transpose(opened(content))
    assert (picture.width, picture.height) == shown.size
    assert ImageOps.exif_transpose(opened(picture.content)).tobytes() == shown.tobytes()


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_upright(value: int) -> None:
    picture = checked(encoded(drawing(), "JPEG", exif=exif(value)))
    assert (picture.width, picture.height) == (96, 64)
    assert b"Exif" not in picture.content


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_colour_profile_and_density_are_kept(file_format: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = encoded(drawing(), file_format, icc_profile=profile, dpi=(300, 300))
    kept = opened(checked(content).content).info
    assert kept["icc_profile"] == profile
    assert kept.get("dpi") == opened(content).info.get("dpi")


@pytest.mark.parametrize("seed", range(4))
def test_two_thousand_mutations_end_in_a_picture_or_a_clear_refusal(seed: int) -> None:
    """Nothing but BadPictureError is raised, and no warning is given."""
    chance = random.Random(seed)
    starts = [
        encoded(drawing(), "JPEG", exif=exif(6), icc_profile=b"x" * 200),
        encoded(drawing(), "JPEG", progressive=True),
        secretive("PNG"),
        encoded(drawing(mode="P"), "PNG", transparency=0),
        secretive("WEBP"),
        encoded(drawing(), "WEBP", lossless=True),
    ]
    outcomes: set[int] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for start, _ in zip(itertools.cycle(starts), range(500), strict=False):
            content = mutated(start, chance)
            for judge in (checked, check_answer, upright):
                try:
                    judge(content)
                    outcomes.add(200)
                except BadPictureError as error:
                    outcomes.add(error.status)
    assert {200, 422} <= outcomes <= {200, 413, 415, 422}
    assert [str(warning.message) for warning in caught] == []


def mutated(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 40))):
        at = chance.randrange(len(changed))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                changed[at] ^= 1 << chance.randrange(8)
            case 2:
                del changed[at : at + chance.randrange(1, 40)]
            case _:
                changed[at:at] = chance.randbytes(chance.randrange(1, 40))
        changed = changed or bytearray(b"\x00")
    if content.startswith(b"\x89PNG") and chance.random() < 0.7:
        return with_right_checksums(bytes(changed))
    return bytes(changed)


def with_right_checksums(content: bytes) -> bytes:
    """So that a mutation gets past the checksums, to what lies behind them."""
    fixed, position = bytearray(content), 8
    while position + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, position)
        end = position + 12 + length
        if end > len(fixed):
            break
        struct.pack_into(">I", fixed, end - 4, zlib.crc32(fixed[position + 4 : end - 4]))
        position = end
    return bytes(fixed)
