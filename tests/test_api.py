"""The HTTP API as its clients meet it: the promised answers, and a clear refusal of everything else."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import struct
import zlib
from typing import Any

import httpx
import pytest
from PIL import Image

import main
from config import Settings
from tests.sandbox.running import SandboxClient
from tests.shop import SAMPLES, Shop, open_shop, small_photo
from tests.stack import RunningStack

PRODUCT_FIELDS = ["id", "title", "jewellery_type", "image_url", "generated_image_urls", "created_at", "updated_at"]
NOBODY = "00000000-0000-4000-8000-000000000000"


async def post(shop: Shop, content: bytes, *, name: str = "photo.jpg", **options: Any) -> httpx.Response:
    return await shop.api.post("/process", files={"file": (name, content)}, **options)


def stored_objects(shop: Shop) -> int:
    return int(shop.rows("select count(*) as n from storage.objects")[0]["n"])


# -- what was promised


async def test_an_upload_is_accepted_at_once(shop: Shop) -> None:
    """JW-01, JW-06 ... JW-08, JW-18 ... JW-21, JW-36."""
    answer = await post(shop, small_photo(), data={"title": "Ring", "jewellery_type": "ring"})
    assert answer.status_code == 202
    body = answer.json()
    assert body["message"] == "Uploaded. Processing started in background."
    assert f"/plant-images/products/{body['product_id']}-" in body["raw_image_url"]
    assert body["raw_image_url"].endswith(".jpg")
    assert shop.fetch(body["raw_image_url"]) == small_photo()
    assert shop.rows("select status, run_no from runs") == [{"status": "pending", "run_no": 1}]


async def test_a_product_can_be_polled_while_it_waits(shop: Shop) -> None:
    """JW-04, JW-05, JW-09 ... JW-11."""
    product = await shop.product(await shop.upload())
    assert list(product)[:7] == PRODUCT_FIELDS
    assert (product["title"], product["jewellery_type"]) == ("Untitled", None)
    assert (product["generated_image_urls"], product["status"]) == ([], "pending")
    assert product["image_url"] == product["raw_image_url"]
    assert "product_private" not in product


async def test_health_and_the_front_page(shop: Shop) -> None:
    """JW-17, PT-01, PT-02, X10."""
    health = (await shop.api.get("/health")).json()
    assert (health["status"], health["environment"]) == ("ok", "test")
    assert health["queue"] == {"pending": 0, "processing": 0, "oldest_pending_s": 0}
    await shop.upload()
    assert (await shop.api.get("/health")).json()["queue"]["pending"] == 1
    assert (await shop.api.get("/")).json()["name"] == "Vitrine"
    assert "/process" in (await shop.api.get("/openapi.json")).json()["paths"]


@pytest.mark.parametrize(
    ("image_format", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp")]
)
async def test_three_formats_are_taken_by_content_whatever_their_name(
    shop: Shop, image_format: str, media_type: str
) -> None:
    """JW-02, X8: the object keeps its name and its true type."""
    answer = await post(shop, small_photo(image_format=image_format), name="../../evil name\u202e.exe")
    assert answer.status_code == 202
    assert shop.fetch(answer.json()["raw_image_url"]) == small_photo(image_format=image_format)
    [stored] = shop.rows(
        "select metadata ->> 'mimetype' as media_type from storage.objects where name like %s",
        f"products/{answer.json()['product_id']}-%.jpg",
    )
    assert stored == {"media_type": media_type}


async def test_the_location_of_a_photograph_is_dropped_and_its_orientation_kept(shop: Shop) -> None:
    image = Image.new("RGB", (400, 200), (120, 80, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    exif.get_ifd(0x8825)[1] = "N"
    output = io.BytesIO()
    image.save(output, "JPEG", exif=exif)
    product_id = (await post(shop, output.getvalue())).json()["product_id"]
    stored = Image.open(io.BytesIO(shop.fetch((await shop.product(product_id))["raw_image_url"])))
    assert dict(stored.getexif()) == {0x0112: 6}
    assert shop.rows("select raw_width, raw_height from product_private") == [{"raw_width": 200, "raw_height": 400}]


@pytest.mark.parametrize("kind", ["cmyk", "sixteen_bit", "palette", "grey_alpha"])
async def test_unusual_pictures_are_processed_too(shop: Shop, kind: str) -> None:
    made = {
        "cmyk": (Image.new("CMYK", (200, 150), (10, 90, 90, 0)), "JPEG"),
        "sixteen_bit": (Image.new("I;16", (200, 150), 40_000), "PNG"),
        "palette": (Image.new("RGB", (200, 150), (9, 99, 199)).quantize(4), "PNG"),
        "grey_alpha": (Image.new("LA", (200, 150), (99, 199)), "PNG"),
    }
    image, image_format = made[kind]
    output = io.BytesIO()
    image.save(output, image_format)
    product = await shop.processed((await post(shop, output.getvalue())).json()["product_id"])
    assert product["status"] == "completed"


# -- what is refused


def png_of_size(width: int, height: int) -> bytes:
    """A well-formed PNG that claims to be that large and weighs next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(50_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animated_webp() -> bytes:
    output = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), (level, 0, 0)) for level in (0, 200)]
    frames[0].save(output, "WEBP", save_all=True, append_images=frames[1:])
    return output.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "empty"),
        (b"hello, I am text " * 10, 415, "JPEG, PNG and WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "JPEG, PNG and WebP"),
        (b"GIF89a" + bytes(100), 415, "JPEG, PNG and WebP"),
        (b"%PDF-1.7\n" + small_photo(), 415, "JPEG, PNG and WebP"),
        (small_photo()[:1500], 422, "cut off"),
        (small_photo(image_format="PNG")[:-30], 422, "cut off"),
        (b"\xff\xd8\xff\xe0" + b"<html><script>alert(1)</script>" * 20, 422, "picture"),
        (png_of_size(65_535, 65_535), 413, "65535 × 65535"),
        (png_of_size(8_000, 8_000), 413, "megapixels"),
        (animated_webp(), 422, "Animated"),
        (small_photo(size=(300, 63)), 422, "300 × 63"),
    ],
    ids=[
        "empty",
        "text",
        "svg",
        "gif",
        "pdf-polyglot",
        "cut-jpeg",
        "cut-png",
        "html-jpeg",
        "bomb",
        "large",
        "animated",
        "tiny",
    ],
)
async def test_what_is_not_a_picture_for_us_is_refused_with_a_sentence(
    shop: Shop, content: bytes, status: int, words: str
) -> None:
    """JW-18, PS-19, PT-34."""
    before = stored_objects(shop)
    answer = await post(shop, content)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert words in answer.json()["detail"]
    assert len(answer.json()["detail"]) < 300
    assert shop.rows("select 1 from products") == []
    assert stored_objects(shop) == before


async def test_bytes_after_the_picture_are_cut_off(shop: Shop) -> None:
    answer = await post(shop, small_photo() + b"PK\x03\x04 a zip file hides here")
    assert answer.status_code == 202
    assert shop.fetch(answer.json()["raw_image_url"]) == small_photo()


async def test_more_than_ten_megabytes_are_refused(shop: Shop) -> None:
    """JW-03."""
    answer = await post(shop, small_photo() + bytes(11_000_000))
    assert answer.status_code == 413
    assert "10 MB" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"title": "x" * 501}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"recipe": "hologram"}, "storefront"),
        ({"pack": "../secrets"}, "jewellery"),
        ({"steps": "animate"}, "steps"),
        ({"priority": "high"}, "priority"),
        ({"priority": "1000"}, "priority"),
    ],
)
async def test_wrong_fields_are_named(shop: Shop, form: dict[str, str], words: str) -> None:
    answer = await post(shop, small_photo(), data=form)
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert shop.rows("select 1 from products") == []


async def test_a_form_without_a_file_is_refused(shop: Shop) -> None:
    answer = await shop.api.post("/process", data={"title": "Ring"})
    assert (answer.status_code, answer.json()) == (422, {"detail": "file: a picture is required."})
    answer = await shop.api.post("/process", data={"file": "not a file"})
    assert answer.status_code == 422


async def test_a_broken_form_is_refused(shop: Shop) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = await shop.api.post("/process", content=b"--b\r\nno header\r\n\r\nx", headers=headers)
    assert answer.status_code == 400
    assert list(answer.json()) == ["detail"]


async def test_what_does_not_exist_is_not_found(shop: Shop) -> None:
    assert (await shop.api.get(f"/product/{NOBODY}")).status_code == 404
    assert (await shop.again(NOBODY)).status_code == 404
    assert (await shop.again(NOBODY, files={"file": ("a.jpg", small_photo())})).status_code == 404
    assert (await shop.api.get("/product/not-an-id")).status_code == 422
    assert (await shop.api.get("/nothing-here")).json() == {"detail": "Not Found"}


async def test_a_product_in_work_cannot_be_started_again(shop: Shop) -> None:
    product_id = await shop.upload()
    [run] = shop.rows("select id from runs")
    answer = await shop.again(product_id)
    assert (answer.status_code, answer.json()["run_id"]) == (409, str(run["id"]))
    before = stored_objects(shop)
    assert (await shop.again(product_id, files={"file": ("b.jpg", small_photo(9))})).status_code == 409
    assert stored_objects(shop) == before


async def test_writing_needs_the_key(shop: Shop) -> None:
    files = {"file": ("a.jpg", small_photo())}
    for headers, words in [({"X-API-Key": ""}, "is needed"), ({"X-API-Key": "wrong"}, "is wrong")]:
        answer = await shop.api.post("/process", files=files, headers=headers)
        assert (answer.status_code, list(answer.json())) == (401, ["detail"])
        assert words in answer.json()["detail"]
    assert (await shop.again(NOBODY, headers={"X-API-Key": "wrong"})).status_code == 401
    bearer = {"X-API-Key": "", "Authorization": "Bearer test-key"}
    assert (await shop.api.post("/process", files=files, headers=bearer)).status_code == 202


async def test_in_development_a_shop_without_a_key_is_open(
    migrated_stack: RunningStack, shop: Shop, shop_sandbox: SandboxClient
) -> None:
    async with open_shop(migrated_stack, shop_sandbox, environment="development", api_key=None) as open_one:
        answer = await open_one.api.post(
            "/process", files={"file": ("a.jpg", small_photo())}, headers={"X-API-Key": ""}
        )
    assert answer.status_code == 202


async def test_foreign_hosts_are_refused_and_known_origins_welcome(
    migrated_stack: RunningStack, shop: Shop, shop_sandbox: SandboxClient
) -> None:
    """PT-40, RK-42, RK-43."""
    changes = {"trusted_hosts": "testserver", "cors_origins": "https://shop.example"}
    async with open_shop(migrated_stack, shop_sandbox, **changes) as strict:
        assert (await strict.api.get("/", headers={"Host": "evil.example"})).status_code == 400
        preflight = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        answer = await strict.api.options("/process", headers=preflight)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        answer = await strict.api.get("/", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers


# -- once


async def test_repeats_with_one_idempotency_key_are_one_product(shop: Shop) -> None:
    headers = {"Idempotency-Key": "order-17"}
    answers = await asyncio.gather(*(post(shop, small_photo(), headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({json.dumps(answer.json()) for answer in answers}) == 1
    assert len(shop.rows("select 1 from runs")) == 1
    assert len(shop.rows("select 1 from products")) == 1


async def test_an_idempotency_key_is_bound_to_its_content(shop: Shop) -> None:
    headers = {"Idempotency-Key": "order-18"}
    first = (await post(shop, small_photo(1), headers=headers)).json()
    before = stored_objects(shop)
    assert (await post(shop, small_photo(2), headers=headers)).status_code == 409
    assert (await post(shop, small_photo(1), headers=headers, data={"title": "Other"})).status_code == 409
    assert stored_objects(shop) == before
    assert shop.fetch(first["raw_image_url"]) == small_photo(1)


async def test_processing_again_is_once_per_key_too(shop: Shop) -> None:
    product_id = await shop.upload()
    await shop.processed(product_id)
    headers = {"Idempotency-Key": "again-1"}
    first = await shop.again(product_id, headers=headers)
    assert (await shop.again(product_id, headers=headers)).json() == first.json()
    assert len(shop.rows("select 1 from runs")) == 2


async def test_clear_empties_what_old_clients_look_at(shop: Shop) -> None:
    """X17."""
    product_id = await shop.upload()
    await shop.processed(product_id)
    await shop.again(product_id, params={"clear": "true"})
    product = await shop.product(product_id)
    assert (product["generated_image_urls"], product["image_url"]) == ([], product["raw_image_url"])


# -- what stays inside


async def test_no_secret_and_no_signed_link_reaches_a_log_or_a_row(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shop.sandbox.rule({"name": "server_error"}, prompt_contains="velvet")
    product_id = await shop.upload((SAMPLES / "ring.jpg").read_bytes(), title="Ring")
    product = await shop.processed(product_id)
    ours = [record for record in caplog.records if record.name.split(".")[0] not in ("httpcore", "httpx", "asyncio")]
    told = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in ours)
    tables = ("products", "product_private", "runs", "steps", "calls", "events")
    kept = json.dumps([shop.rows(f"select * from {table}") for table in tables], default=str)
    for secret in (shop.stack.secret_key, "test-key", "token=", "base64", "/object/sign/"):
        assert secret not in told, secret
        assert secret not in kept, secret
        assert secret not in json.dumps(product)


async def test_a_supabase_that_does_not_answer_is_a_clear_503(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> httpx.Response:
        raise httpx.ConnectError("no")

    monkeypatch.setattr("main.PATIENCE_S", 0.1)
    async with open_shop(shop.stack, shop.sandbox) as cut_off:
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", refuse)
        monkeypatch.setattr("httpx_aiohttp.transport.AiohttpTransport.handle_async_request", refuse)
        for answer in [await cut_off.api.get("/health"), await post(cut_off, small_photo())]:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "does not answer" in answer.json()["detail"]


async def test_a_schema_cache_that_is_behind_is_waited_for(shop: Shop) -> None:
    """The functions were there at the start, so their absence passes: nothing fails of it."""

    async def status_becomes(expected: int) -> httpx.Response:
        async with asyncio.timeout(20):
            while (answer := await shop.api.get("/health")).status_code != expected:
                await asyncio.sleep(0.1)
        return answer

    shop.execute("alter function public.queue_health_v1() rename to hidden_v1")
    try:
        assert "does not answer" in (await status_becomes(503)).json()["detail"]
    finally:
        shop.execute("alter function public.hidden_v1() rename to queue_health_v1")
    await status_becomes(200)


def test_settings_are_not_read_by_importing_the_api() -> None:
    assert callable(main.create_app)
    assert not any(isinstance(value, Settings) for value in vars(main).values())
