"""What is taken for a picture, and what is sent to models."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageOps

from errors import BadPictureError
from pictures import check_answer, upright
from tests.picture_files import (
    checked,
    drawing,
    encoded,
    exif,
    jpeg_segment,
    jpeg_with,
    opened,
    png_chunk,
    png_with,
)

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.mark.parametrize("name", ["ring.jpg", "necklace.jpg", "earrings.jpg", "cup.jpg", "old-photo.jpg"])
def test_a_photograph_is_accepted_with_its_pixels_untouched(name: str) -> None:
    content = (SAMPLES / name).read_bytes()
    picture = checked(content)
    assert picture.media_type == "image/jpeg"
    assert (picture.width, picture.height) == opened(content).size
    assert opened(picture.content).tobytes() == opened(content).tobytes()


@pytest.mark.parametrize(
    ("content", "media_type", "has_alpha"),
    [
        (encoded(drawing(), "JPEG"), "image/jpeg", False),
        (encoded(drawing(), "JPEG", progressive=True), "image/jpeg", False),
        (encoded(drawing(mode="L"), "JPEG"), "image/jpeg", False),
        (encoded(drawing(mode="CMYK"), "JPEG"), "image/jpeg", False),
        (encoded(drawing(), "JPEG", restart_marker_blocks=1), "image/jpeg", False),
        (encoded(drawing(), "PNG"), "image/png", False),
        (encoded(drawing(mode="RGBA"), "PNG"), "image/png", True),
        (encoded(drawing(mode="P"), "PNG"), "image/png", False),
        (encoded(drawing(mode="P"), "PNG", transparency=bytes(range(256))), "image/png", True),
        (encoded(drawing(mode="1"), "PNG"), "image/png", False),
        (encoded(drawing(mode="L").convert("I;16"), "PNG"), "image/png", False),
        (encoded(drawing(), "PNG", transparency=drawing().getpixel((9, 9))), "image/png", True),
        (encoded(drawing(), "WEBP"), "image/webp", False),
        (encoded(drawing(mode="RGBA"), "WEBP"), "image/webp", True),
        (encoded(drawing(mode="RGBA"), "WEBP", lossless=True), "image/webp", True),
    ],
)
def test_stills_of_the_three_types_are_accepted(content: bytes, media_type: str, *, has_alpha: bool) -> None:
    picture = checked(content)
    assert (picture.media_type, picture.width, picture.height) == (media_type, 96, 64)
    assert picture.has_alpha == has_alpha
    assert opened(picture.content).tobytes() == opened(content).tobytes()


def test_an_alpha_channel_that_hides_nothing_is_no_alpha() -> None:
    picture = drawing()
    picture.putalpha(255)
    assert not checked(encoded(picture, "PNG")).has_alpha


def test_checking_twice_changes_nothing_more() -> None:
    once = checked(encoded(drawing(), "JPEG", exif=exif(6))).content
    assert checked(once).content == once


@pytest.mark.parametrize(
    "content",
    [
        b"Dear shop, here is my picture.",
        b"<html><body>picture</body></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"MZ\x90\x00\x03",
        b"%PDF-1.7",
        b"PK\x03\x04",
        encoded(drawing(), "GIF"),
        encoded(drawing(), "BMP"),
        encoded(drawing(), "TIFF"),
        encoded(drawing(), "AVIF"),
        b"GIF89a=1;alert(1)//",
    ],
)
def test_another_type_is_refused_as_such(content: bytes) -> None:
    with pytest.raises(BadPictureError, match="Only JPEG, PNG and WebP") as caught:
        checked(content)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0" + b"<script>alert(1)</script>" * 20,
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x00\x00\x00\x00WEBP",
        b"RIFF\xff\xff\xff\xffWEBPVP8X" + bytes(40),
    ],
)
def test_what_only_begins_like_a_picture_is_refused(content: bytes) -> None:
    with pytest.raises(BadPictureError) as caught:
        checked(content)
    assert caught.value.status == 422


def bomb_png(side: int) -> bytes:
    """A few kilobytes that claim `side` x `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def bomb_jpeg() -> bytes:
    content = bytearray(encoded(drawing(), "JPEG"))
    at = content.index(b"\xff\xc0")
    struct.pack_into(">HH", content, at + 5, 65_500, 65_500)
    return bytes(content)


def bomb_webp() -> bytes:
    content = bytearray(encoded(drawing(), "WEBP"))
    at = content.index(b"\x9d\x01\x2a")
    struct.pack_into("<HH", content, at + 3, 16_383, 16_383)
    return bytes(content)


@pytest.mark.parametrize("content", [bomb_png(65_535), bomb_png(2**31 - 1), bomb_jpeg(), bomb_webp()])
def test_a_bomb_is_refused_by_its_header(content: bytes) -> None:
    """No pixel is decoded: a 65,535 x 65,535 picture would take 12 GB."""
    tracemalloc.start()
    with pytest.raises(BadPictureError, match="pixels") as caught:
        checked(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.status == 413
    assert peak < 2_000_000


def test_too_many_pixels_are_refused_though_each_side_would_do() -> None:
    with pytest.raises(BadPictureError, match=r"at most 0\.006 megapixels") as caught:
        checked(encoded(drawing(), "PNG"), max_pixels=6_000)
    assert caught.value.status == 413


def test_a_side_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadPictureError, match="longer than 95"):
        checked(encoded(drawing(), "PNG"), max_side=95)


def test_headers_that_disagree_are_refused() -> None:
    """A second header with another size could slip past the check of the first."""
    content = encoded(drawing(mode="RGBA"), "WEBP")
    at = content.index(b"VP8X") + 12
    lying = content[:at] + (9).to_bytes(3, "little") + content[at + 3 :]
    with pytest.raises(BadPictureError, match="disagree"):
        checked(lying)
    frame = jpeg_segment(0xC0, b"\x08" + struct.pack(">HH", 60_000, 60_000) + b"\x03" + bytes(9))
    with pytest.raises(BadPictureError, match="two headers"):
        checked(jpeg_with(frame))


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_bomb_in_a_png_text_or_profile_is_dropped_unopened(name: bytes) -> None:
    squeezed = zlib.compress(bytes(200_000_000), 9)
    body = b"x\x00\x01\x00\x00\x00" + squeezed if name == b"iTXt" else b"x\x00\x00" + squeezed
    content = png_with(png_chunk(name, body) * 3)
    tracemalloc.start()
    picture = checked(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert name not in picture.content
    assert peak < len(content) * 4 + 2_000_000


def test_a_jpeg_with_thousands_of_scans_is_refused() -> None:
    """Each scan decodes the whole picture again: a small file could cost minutes."""
    content = encoded(drawing(), "JPEG", progressive=True)
    last_scan = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(BadPictureError, match="scans"):
        checked(content[:-2] + last_scan * 5_000 + content[-2:])


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"tEXt", b"") * 200_000,
        jpeg_with(jpeg_segment(0xFE, b"") * 500_000),
        b"RIFF" + struct.pack("<I", 8_000_004) + b"WEBP" + b"JUNK\x00\x00\x00\x00" * 1_000_000,
    ],
)
def test_endless_parts_are_refused(content: bytes) -> None:
    with pytest.raises(BadPictureError):
        checked(content)


@pytest.mark.parametrize(
    "content",
    [
        encoded(drawing(), "PNG", save_all=True, append_images=[drawing().rotate(90)]),
        encoded(drawing(), "WEBP", save_all=True, append_images=[drawing().rotate(90)]),
    ],
)
def test_an_animation_is_refused(content: bytes) -> None:
    with pytest.raises(BadPictureError, match="Animated"):
        checked(content)


@pytest.mark.parametrize(("file_format", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("WEBP", "RGB"), ("WEBP", "RGBA")])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_picture_that_is_cut_off_is_refused(file_format: str, mode: str, share: float) -> None:
    content = encoded(drawing(400, 300, mode), file_format)
    with pytest.raises(BadPictureError) as caught:
        checked(content[: int(len(content) * share)])
    assert caught.value.status == 422


def test_a_png_whose_checksum_is_wrong_is_refused() -> None:
    content = bytearray(encoded(drawing(), "PNG"))
    content[content.index(b"IEND") - 5] ^= 1  # in the checksum of the pixels
    with pytest.raises(BadPictureError, match="checksum"):
        checked(bytes(content))


@pytest.mark.parametrize("tail", [b"PK\x03\x04 an archive", b"%PDF-1.7", b"<script>alert(1)</script>", b"\x00" * 9])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_whatever_follows_the_end_is_cut(file_format: str, tail: bytes) -> None:
    content = encoded(drawing(), file_format)
    assert checked(content + tail).content == checked(content).content


def test_an_answer_that_is_tiny_is_refused() -> None:
    with pytest.raises(BadPictureError, match="only 63 × 200 pixels"):
        check_answer(encoded(drawing(63, 200), "PNG"))


def test_an_answer_that_shows_nothing_is_refused() -> None:
    nothing = Image.new("RGBA", (96, 96), (200, 10, 10, 0))
    with pytest.raises(BadPictureError, match="fully transparent"):
        check_answer(encoded(nothing, "PNG"))


def test_a_cut_out_is_a_good_answer() -> None:
    answer = check_answer(encoded(drawing(mode="RGBA"), "PNG"))
    assert answer.has_alpha
    assert answer.media_type == "image/png"


@pytest.mark.parametrize(
    "content",
    [
        encoded(drawing(), "JPEG"),
        encoded(drawing(mode="L"), "JPEG"),
        encoded(drawing(), "PNG"),
        encoded(drawing(mode="RGBA"), "PNG"),
        encoded(drawing(mode="L"), "PNG"),
    ],
)
def test_what_every_model_takes_is_sent_as_it_is(content: bytes) -> None:
    sent, media_type = upright(content)
    assert sent == content
    assert media_type == checked(content).media_type


@pytest.mark.parametrize(
    ("content", "media_type", "mode"),
    [
        (encoded(drawing(), "JPEG", exif=exif(6)), "image/jpeg", "RGB"),
        (encoded(drawing(), "PNG", exif=exif(6)), "image/png", "RGB"),
        (encoded(drawing(mode="CMYK"), "JPEG"), "image/jpeg", "RGB"),
        (encoded(drawing(mode="P"), "PNG"), "image/png", "RGB"),
        (encoded(drawing(mode="P"), "PNG", transparency=bytes(range(256))), "image/png", "RGBA"),
        (encoded(drawing(mode="LA"), "PNG"), "image/png", "RGBA"),
        (encoded(drawing(mode="1"), "PNG"), "image/png", "RGB"),
        (encoded(drawing(), "WEBP", quality=95), "image/jpeg", "RGB"),
        (encoded(drawing(mode="RGBA"), "WEBP", lossless=True, exact=True), "image/png", "RGBA"),
    ],
)
def test_everything_else_is_made_upright_eight_bit_srgb(content: bytes, media_type: str, mode: str) -> None:
    sent, sent_type = upright(content)
    assert sent_type == media_type
    model_sees = opened(sent)
    assert model_sees.mode == mode
    assert "exif" not in model_sees.info
    assert mean_difference(model_sees, ImageOps.exif_transpose(opened(content)).convert(mode)) < 3
    assert upright(sent)[0] == sent


def test_sixteen_bits_become_eight_of_the_same_brightness() -> None:
    sent, _ = upright(encoded(Image.new("I;16", (80, 80), 200 * 257), "PNG"))
    assert opened(sent).getpixel((40, 40)) == (200, 200, 200)


def test_a_wide_colour_profile_is_taken_to_srgb() -> None:
    """The profile's numbers would be shown too pale where it is ignored."""
    profile = swapped_colours_profile()
    content = encoded(Image.new("RGB", (80, 80), (255, 0, 0)), "WEBP", lossless=True, icc_profile=profile)
    sent, _ = upright(content)
    red, green, _ = opened(sent).getpixel((40, 40))  # type: ignore[misc]
    assert green > red


def swapped_colours_profile() -> bytes:
    """sRGB with red and green exchanged: an unmistakable profile."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = (profile.index(name, 128) for name in (b"rXYZ", b"gXYZ"))
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(profile)


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return sum(abs(left - right) for left, right in pairs) / len(one.tobytes())


@pytest.mark.parametrize("judge", [checked, check_answer, upright])
def test_pictures_are_judged_in_many_threads_at_once(judge: Callable[[bytes], object]) -> None:
    content = encoded(drawing(), "JPEG", exif=exif(6))
    expected = judge(content)
    with ThreadPoolExecutor(8) as threads:
        assert all(result == expected for result in threads.map(judge, [content] * 64))
