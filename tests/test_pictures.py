"""What is taken for a picture, what is left of it, and what is sent to models."""

from __future__ import annotations

import io
import itertools
import random
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from domain import Picture
from errors import BadPictureError
from pictures import check_answer, check_upload, upright

SAMPLES = Path(__file__).parent.parent / "samples"
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


# ------------------------------------------------------------------------------------------------ what is accepted


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


# ------------------------------------------------------------------------------------------------ size before pixels


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


# ------------------------------------------------------------------------------------------------ stills, whole


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


# ------------------------------------------------------------------------------------------------ metadata


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


# ------------------------------------------------------------------------------------------------ hostile bytes


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


# ------------------------------------------------------------------------------------------------ answers of models


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


# ------------------------------------------------------------------------------------------------ for models


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
