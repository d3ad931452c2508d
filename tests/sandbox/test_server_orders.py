"""What an order means: which work, at which price, in which size, and which orders are refused."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sandbox import nanobanana_orders, reve_orders
from sandbox.work import PictureJob, perform
from tests.sandbox.running import PICTURE, ROOT, Neighbour, SandboxClient, SandboxProcess

TEXT = base64.b64encode(PICTURE).decode()
CUT = [{"process": "remove_background"}]


def order(operation: str, body: dict[str, Any], media_type: str = "image/png") -> reve_orders.Order:
    prompt = body.get("edit_instruction") or body.get("prompt") or ""
    return reve_orders.read_order(operation, body, prompt=prompt, media_type=media_type)


def edit(instruction: str, **more: Any) -> reve_orders.Order:
    return order("edit", {"edit_instruction": instruction, "reference_image": TEXT, **more})


@pytest.mark.parametrize(
    ("instruction", "postprocessing", "works"),
    [
        ("Remove the background.", CUT, ("cutout",)),
        ("Restore this photograph.", [], ("restore",)),
        ("Repair every scratch.", [], ("restore",)),
        ("Colorize it.", [], ("colourise",)),
        ("Restore, then colourise it in warm tones.", [], ("restore", "colourise")),
        ("Restore it and cut it out.", CUT, ("restore", "cutout")),
        ("Make it nicer.", [], ("enhance",)),
    ],
)
def test_the_words_of_an_edit_choose_the_work(
    instruction: str, postprocessing: list[dict[str, str]], works: tuple[str, ...]
) -> None:
    assert edit(instruction, postprocessing=postprocessing).job.works == works


@pytest.mark.parametrize(
    ("more", "credit_count"),
    [
        ({}, 30),
        ({"version": "latest-fast"}, 5),
        ({"version": "reve-edit@20250915"}, 30),
        ({"postprocessing": CUT}, 32),
        ({"postprocessing": [{"process": "fit_image", "max_dim": 32}]}, 30),
        ({"postprocessing": [{"process": "effect", "effect_name": "grain"}]}, 33),
        ({"postprocessing": [*CUT, {"process": "upscale", "upscale_factor": 4}]}, 34),
    ],
)
def test_an_edit_is_priced_by_version_and_extras(more: dict[str, Any], credit_count: int) -> None:
    assert edit("Nicer.", **more).credit_count == credit_count


def test_a_large_cut_out_costs_more() -> None:
    photo = base64.b64encode((ROOT / "samples" / "necklace.jpg").read_bytes()).decode()
    assert edit("Cut.", reference_image=photo, postprocessing=CUT).credit_count == 30 + 3  # 1.92 megapixels


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ({}, (96, 64)),
        ({"postprocessing": [{"process": "fit_image", "max_dim": 48}]}, (48, 32)),
        ({"postprocessing": [{"process": "fit_image", "max_width": 500, "max_height": 16}]}, (24, 16)),
        ({"postprocessing": [{"process": "upscale", "upscale_factor": 2}]}, (192, 128)),
        ({"aspect_ratio": "1:1"}, (96, 96)),
    ],
)
def test_a_picture_comes_out_in_the_size_asked_for(more: dict[str, Any], size: tuple[int, int]) -> None:
    content = perform(edit("Nicer.", **more).job, seed=1)
    with Image.open(io.BytesIO(content)) as picture:
        assert (picture.size, picture.mode) == (size, "RGBA")


def test_an_edit_comes_out_upright() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (40, 20), (200, 100, 50)).save(file, "JPEG", exif=exif)
    turned = edit("Nicer.", reference_image=base64.b64encode(file.getvalue()).decode())
    assert (turned.size.width, turned.size.height) == (20, 40)
    with Image.open(io.BytesIO(perform(turned.job, seed=1))) as picture:
        assert picture.size == (20, 40)


@pytest.mark.parametrize(("media_type", "kind"), [("image/jpeg", "JPEG"), ("image/webp", "WEBP")])
def test_raw_mode_has_other_formats(media_type: str, kind: str) -> None:
    body = {"edit_instruction": "Nicer.", "reference_image": TEXT}
    with Image.open(io.BytesIO(perform(order("edit", body, media_type).job, seed=1))) as picture:
        assert picture.format == kind


@pytest.mark.parametrize(
    ("operation", "body", "status", "code"),
    [
        ("create", {}, 400, "MISSING_REQUIRED_PARAMETER"),
        ("edit", {"edit_instruction": "x"}, 400, "MISSING_REQUIRED_PARAMETER"),
        ("edit", {"edit_instruction": "x", "reference_image": "data:image/png;base64,AAAA"}, 422, "INVALID_IMAGE"),
        ("edit", {"edit_instruction": "x", "reference_image": 7}, 422, "INVALID_IMAGE"),
        ("create", {"prompt": "x" * 2561}, 400, "PROMPT_TOO_LONG"),
        ("create", {"prompt": "x", "aspect_ratio": "5:4"}, 400, "INVALID_PARAMETER"),
        ("create", {"prompt": "x", "version": "latest-fast"}, 400, "INVALID_PARAMETER"),
        ("create", {"prompt": "x", "postprocessing": "cut"}, 400, "INVALID_PARAMETER"),
        ("create", {"prompt": "x", "postprocessing": [{"process": "polish"}]}, 400, "INVALID_PARAMETER"),
        (
            "create",
            {"prompt": "x", "postprocessing": [{"process": "upscale", "upscale_factor": 8}]},
            400,
            "INVALID_PARAMETER",
        ),
        (
            "create",
            {"prompt": "x", "postprocessing": [{"process": "upscale", "upscale_factor": 4}] * 3},
            400,
            "INVALID_PARAMETER",
        ),
        (
            "create",
            {"prompt": "x", "postprocessing": [{"process": "fit_image", "max_dim": 5000}]},
            400,
            "INVALID_PARAMETER",
        ),
        ("remix", {"prompt": "x", "reference_images": [TEXT] * 7}, 400, "INDEX_OUT_OF_BOUNDS"),
        ("remix", {"prompt": "<img>1</img>", "reference_images": [TEXT]}, 400, "INDEX_OUT_OF_BOUNDS"),
    ],
)
def test_reve_refuses_what_its_documentation_does_not_allow(
    operation: str, body: dict[str, Any], status: int, code: str
) -> None:
    with pytest.raises(reve_orders.RejectedError) as raised:
        order(operation, body)
    assert (raised.value.status, raised.value.code) == (status, code)


GOOD = {"prompt": "x", "type": "TEXTTOIAMGE"}


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("generate", {**GOOD, "prompt": ""}),
        ("generate", {**GOOD, "type": "TEXTTOIMAGE"}),
        ("generate", {**GOOD, "type": "IMAGETOIAMGE"}),
        ("generate", {**GOOD, "numImages": 5}),
        ("generate", {**GOOD, "image_size": "auto"}),
        ("generate-2", {"prompt": "x", "imageUrls": ["https://host/a.png"] * 15}),
        ("generate-2", {"prompt": "x", "imageUrls": ["data:image/png;base64,AAAA"]}),
        ("generate-2", {"prompt": "x", "outputFormat": "webp"}),
        ("generate-pro", {"prompt": "x", "aspectRatio": "8:1"}),
        ("generate-pro", {"prompt": "x", "resolution": "8K"}),
        ("generate-pro", {"prompt": "x", "callBackUrl": "file:///etc/passwd"}),
    ],
)
def test_nanobanana_refuses_what_its_documentation_does_not_allow(operation: str, body: dict[str, Any]) -> None:
    with pytest.raises(nanobanana_orders.RejectedError) as raised:
        nanobanana_orders.read_order(operation, body)
    assert raised.value.code == 400


def test_each_generation_has_its_own_price_and_format() -> None:
    first = nanobanana_orders.read_order("generate", GOOD)
    second = nanobanana_orders.read_order("generate-2", {"prompt": "x", "resolution": "2K"})
    third = nanobanana_orders.read_order("generate-pro", {"prompt": "x", "aspectRatio": "3:2"})
    assert [each.credit_count for each in (first, second, third)] == [4, 12, 24]
    assert [each.media_type for each in (first, second, third)] == ["image/png", "image/jpeg", "image/png"]
    assert [each.ratio for each in (first, second, third)] == [1.0, None, 1.5]


def test_a_job_without_a_source_begins_with_a_scene() -> None:
    with pytest.raises(ValueError, match="starts with a scene"):
        perform(PictureJob(source=None, steps=()), seed=1)


def test_the_same_seed_and_calls_give_the_same_scenes(tmp_path: Path, neighbour: Neighbour) -> None:
    """Asking once more for the same words gives another picture, in both runs the same one."""
    runs = []
    for name in ("first", "second"):
        running = SandboxProcess(tmp_path / name, "--seed", "7")
        with SandboxClient(running.url) as client:
            prompt = "White marble, daylight"
            task_ids = [client.submit(f"{neighbour.url}/a.png", prompt=prompt, image_size="3:2") for _ in range(2)]
            urls = [client.finish(task_id)["response"]["resultImageUrl"] for task_id in task_ids]
            pictures = [client.get(url).content for url in urls]
        assert running.stop() == (0, "", "")
        runs.append(pictures)
    assert sorted(runs[0]) == sorted(runs[1])  # the two of a run may have overtaken each other
    assert runs[0][0] != runs[0][1]
    with Image.open(io.BytesIO(runs[0][0])) as picture:
        assert picture.size == (1256, 840)  # about a megapixel, 3:2, in steps of 8
