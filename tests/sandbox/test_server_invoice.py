"""The invoice tells the truth about money: what was accepted, billed and delivered, and how often."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sandbox import fingerprint
from sandbox.invoice import Invoice, purchases, totals
from tests.sandbox.running import PICTURE, Neighbour, SandboxClient

CUTOUT_CREDITS = 32  # 30 for the edit, 2 for the background of a small picture
CUTOUT_MICROS = 42_667  # at $10 for 7,500 credits
SCENE_CREDITS = 4
SCENE_MICROS = 20_000  # at $0.005 a credit


def test_a_delivered_call_is_billed_once(client: SandboxClient) -> None:
    answer = client.cut_out().json()
    (line,) = client.invoice()["lines"]
    assert (line["provider"], line["operation"], line["work"]) == ("reve", "edit", "cutout")
    assert (line["accepted"], line["delivered"], line["status"]) == (True, True, 200)
    assert (line["credits"], line["cost_micros"]) == (CUTOUT_CREDITS, CUTOUT_MICROS)
    assert (answer["credits_used"], answer["credits_remaining"]) == (CUTOUT_CREDITS, 1_000_000 - CUTOUT_CREDITS)
    assert answer["request_id"] == line["request_id"]
    assert line["picture"] == line["origin"] == fingerprint.of_picture(PICTURE)


@pytest.mark.parametrize(
    "fault",
    [
        "lost_answer",
        "reset_in_body",
        "truncated",
        "hang; seconds=0.01",
        "server_error; accepted=true",
        "empty_200",
        "empty_picture",
        "wrong_bytes",
        "policy_refusal; charged=true",
    ],
)
def test_what_was_accepted_is_billed_whatever_becomes_of_the_answer(client: SandboxClient, fault: str) -> None:
    try:
        client.cut_out(fault=fault)
    except httpx.TransportError:
        expected = False
    else:
        expected = fault != "empty_200"
    (line,) = client.invoice()["lines"]
    assert (line["accepted"], line["credits"], line["delivered"]) == (True, CUTOUT_CREDITS, expected)
    assert str(line["fault"]).startswith(fault.split(";")[0])


@pytest.mark.parametrize(
    "fault", ["rate_limit", "out_of_credit", "bad_key", "server_error", "reset", "hang; seconds=0.01; accepted=false"]
)
def test_what_was_refused_is_not_billed(client: SandboxClient, fault: str) -> None:
    try:
        answer = client.cut_out(fault=fault)
        assert answer.status_code >= 400
    except httpx.TransportError:
        pass
    (line,) = client.invoice()["lines"]
    assert (line["accepted"], line["credits"], line["cost_micros"]) == (False, 0, 0)


def test_a_lost_answer_to_a_submit_leaves_a_task_that_was_paid(client: SandboxClient, neighbour: Neighbour) -> None:
    with pytest.raises(httpx.ReadError):
        client.submit(f"{neighbour.url}/a.png", fault="lost_answer")
    (line,) = client.invoice()["lines"]
    assert (line["delivered"], line["credits"], line["cost_micros"]) == (False, SCENE_CREDITS, SCENE_MICROS)
    assert client.finish(line["task_id"])["successFlag"] == 1
    assert client.invoice()["totals"]["nanobanana"]["undelivered"] == 1


@pytest.mark.parametrize(("charged", "billed"), [("true", SCENE_CREDITS), ("false", 0)])
def test_a_failed_task_is_billed_as_the_fault_says(
    client: SandboxClient, neighbour: Neighbour, charged: str, billed: int
) -> None:
    task_id = client.submit(f"{neighbour.url}/a.png", fault=f"task_failed; charged={charged}")
    assert client.finish(task_id)["successFlag"] == 3
    (line,) = client.invoice(operation="generate")["lines"]
    assert line["credits"] == billed
    assert client.get("/api/v1/common/credit").json()["data"] == 1_000_000 - billed


def test_a_picture_that_cannot_be_fetched_costs_nothing(client: SandboxClient, neighbour: Neighbour) -> None:
    record = client.finish(client.submit(f"{neighbour.url}/missing.png"))
    assert (record["successFlag"], record["errorCode"]) == (2, 400)
    assert client.invoice(operation="generate")["lines"][0]["credits"] == 0


def test_an_empty_account_buys_nothing(client: SandboxClient, neighbour: Neighbour) -> None:
    client.behave(credits={"reve": CUTOUT_CREDITS, "nanobanana": SCENE_CREDITS})
    assert [client.cut_out().status_code for _ in range(2)] == [200, 402]
    client.submit(f"{neighbour.url}/a.png")
    body = {"prompt": "x", "type": "TEXTTOIAMGE"}
    assert client.post("/api/v1/nanobanana/generate", json=body).json()["code"] == 402


def test_purchases_say_how_often_a_step_of_a_picture_was_bought(client: SandboxClient, neighbour: Neighbour) -> None:
    """The scenes are told apart by their words, and counted for the photograph, not for the cut-out."""
    cutout = base64.b64decode(client.cut_out().json()["image"])
    neighbour.pictures["/products/cut.png"] = _with_other_metadata(cutout)
    for prompt in ("Stone", "Velvet", "Stone"):
        client.finish(client.submit(f"{neighbour.url}/products/cut.png?token=secret", prompt=prompt))
    photo = fingerprint.of_picture(PICTURE)
    invoice = client.invoice(picture=photo)
    bought = {(entry["work"], entry["prompt"]): entry["times"] for entry in invoice["purchases"]}
    assert bought == {
        ("cutout", "Remove the background."): 1,
        ("scene", "Stone"): 2,
        ("scene", "Velvet"): 1,
    }
    assert {entry["origin"] for entry in invoice["purchases"]} == {photo}
    assert client.invoice(work="scene")["lines"][0]["input_paths"] == ["/products/cut.png"]


def test_filters_narrow_the_lines_and_the_totals(client: SandboxClient) -> None:
    client.cut_out()
    client.cut_out(fault="rate_limit")
    client.get("/api/misc/balance")
    assert client.invoice()["totals"]["reve"]["calls"] == 3
    refused = client.invoice(operation="edit", accepted="false")
    assert [line["status"] for line in refused["lines"]] == [429]
    assert refused["totals"]["reve"] == {
        "calls": 1, "accepted": 0, "credits": 0, "cost_micros": 0, "undelivered": 0,
    }  # fmt: skip
    assert client.invoice(prompt_contains="background")["totals"]["reve"]["calls"] == 2


def test_an_invoice_is_the_same_after_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "invoice.jsonl"
    invoice = Invoice(path)
    line = invoice.open_line("reve", "edit", "rsid-1", "Words")
    invoice.accept(line, work="cutout", credit_count=32)
    invoice.set_picture(line, PICTURE)
    invoice.close()
    with path.open("a") as file:
        file.write('{"number": 1, "deliv')
    again = Invoice(path)
    assert again.lines == [line]
    assert again.credits_spent("reve") == 32
    assert again.open_line("reve", "edit", "rsid-2", None).number == 2
    again.close()
    last = Invoice(path)
    assert [entry.number for entry in last.lines] == [1, 2]
    assert totals(last.lines)["reve"]["accepted"] == 1
    assert purchases(last.lines)[0]["times"] == 1
    last.close()


def test_a_fingerprint_forgets_metadata_and_nothing_else() -> None:
    assert fingerprint.of_picture(_with_other_metadata(PICTURE)) == fingerprint.of_picture(PICTURE)
    other = Image.open(io.BytesIO(PICTURE))
    other.putpixel((0, 0), (1, 2, 3, 4))
    assert fingerprint.of_picture(_saved(other, "PNG")) != fingerprint.of_picture(PICTURE)
    photo = Image.open(io.BytesIO(PICTURE)).convert("RGB")
    plain = _saved(photo, "JPEG")
    exif = Image.Exif()
    exif[0x010E] = "A ring"
    assert fingerprint.of_picture(_saved(photo, "JPEG", exif=exif)) == fingerprint.of_picture(plain)
    assert fingerprint.of_picture(_saved(photo, "JPEG", quality=40)) != fingerprint.of_picture(plain)


def _with_other_metadata(png: bytes) -> bytes:
    """The same pixels data with another text inside."""
    texts = PngInfo()
    texts.add_text("Description", "another")
    with_text = _saved(Image.new("L", (1, 1)), "PNG", pnginfo=texts)
    start = with_text.index(b"tEXt") - 4
    chunk = with_text[start : start + 12 + int.from_bytes(with_text[start : start + 4])]
    head = 8 + 25  # the signature and the IHDR chunk
    return png[:head] + chunk + png[head:]


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
