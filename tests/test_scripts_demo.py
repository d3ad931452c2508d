"""`make demo`: one photograph in, files out, nothing left behind. Each demo is a process with services of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.scripts_support import RING, ROOT, Command, eventually, processes_in, run

REFUSE = "A ring on a table. [[sandbox: policy_refusal]]"
LABELS = ["Stone — Classic", "Velvet — Boutique", "Marble — Editorial", "Charcoal — Dramatic"]


@dataclass(frozen=True, kw_only=True)
class FinishedDemo:
    code: int
    output: str
    out: Path
    temporary: Path

    def product(self) -> dict[str, object]:
        content: dict[str, object] = json.loads((self.out / "product.json").read_text())
        return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demos")


@pytest.fixture(scope="module")
def small_ring(folder: Path) -> Path:
    """Quicker work for the demos whose pictures nobody looks at."""
    file = folder / "small ring.jpg"
    with Image.open(RING) as ring:
        ring.resize((ring.width // 3, ring.height // 3)).save(file)
    return file


@pytest.fixture(scope="module")
def demos(folder: Path, small_ring: Path) -> dict[str, FinishedDemo]:
    """Several demos side by side."""
    not_a_picture = folder / "notes.jpg"
    not_a_picture.write_text("not a picture")
    wanted: dict[str, tuple[Path, dict[str, str]]] = {
        "whole": (
            RING,
            {"TITLE": "Étoile", "JEWELLERY_TYPE": "ring", "REVE_API_KEY": "k", "SUPABASE_URL": "http://x.y"},
        ),
        "partial": (small_ring, {"NANOBANANA_VARIANT_PROMPT_3": REFUSE}),
        "refused": (not_a_picture, {}),
        "failed": (small_ring, {"REVE_PROMPT": REFUSE}),
    }
    running = {}
    for name, (photo, environment) in wanted.items():
        temporary = folder / f"tmp-{name}"
        temporary.mkdir()
        out = folder / "out" / name
        running[name] = Command.start("scripts.demo", str(photo), str(out), TMPDIR=str(temporary), **environment)
    return {
        name: FinishedDemo(
            code=command.wait(), output=command.output, out=folder / "out" / name, temporary=folder / f"tmp-{name}"
        )
        for name, command in running.items()
    }


def test_a_photograph_becomes_a_cutout_and_four_scenes(demos: dict[str, FinishedDemo]) -> None:
    demo = demos["whole"]
    assert demo.code == 0, demo.output
    with Image.open(RING) as ring, Image.open(demo.out / "cutout.png") as cutout:
        assert (cutout.format, cutout.mode, cutout.size) == ("PNG", "RGBA", ring.size)
    contents = set()
    for place in (1, 2, 3, 4):
        with Image.open(demo.out / f"variant_{place}.png") as variant:
            assert variant.format == "PNG"
            contents.add(variant.convert("RGB").tobytes())
    assert len(contents) == 4


def test_the_final_product_is_saved_beside_the_pictures(demos: dict[str, FinishedDemo]) -> None:
    product = demos["whole"].product()
    assert product["status"] == "completed"
    assert (product["title"], product["jewellery_type"]) == ("Étoile", "ring")
    assert len(product["generated_image_urls"]) == 4  # type: ignore[arg-type]
    assert [variant["label"] for variant in product["variants"]] == LABELS  # type: ignore[attr-defined]
    assert product["error_message"] is None


def test_each_step_is_told_as_it_lands(demos: dict[str, FinishedDemo]) -> None:
    told = demos["whole"].output
    assert all(f"✓ {label}" in told for label in ["Cut-out", *LABELS])
    assert told.index("✓ Cut-out") < told.index("✓ Stone")


def test_a_scene_that_cannot_be_made_leaves_the_others_at_their_places(demos: dict[str, FinishedDemo]) -> None:
    demo = demos["partial"]
    assert demo.code == 1
    assert demo.output.splitlines()[-1].startswith("Could not be made: Marble — Editorial.")
    assert sorted(file.name for file in demo.out.iterdir()) == [
        "cutout.png",
        "product.json",
        "variant_1.png",
        "variant_2.png",
        "variant_4.png",
    ]


def test_a_refused_photograph_is_explained_in_the_apis_words(demos: dict[str, FinishedDemo]) -> None:
    demo = demos["refused"]
    assert demo.code == 1
    assert demo.output.splitlines()[-1].startswith("The photograph was refused: ")
    assert list(demo.out.iterdir()) == []


def test_a_failed_run_is_explained_by_its_error_message(demos: dict[str, FinishedDemo]) -> None:
    demo = demos["failed"]
    assert demo.code == 1
    assert demo.output.splitlines()[-1].startswith("Cut-out: ")
    assert list(demo.out.iterdir()) == []


def test_demos_leave_no_process_and_no_temporary_file(demos: dict[str, FinishedDemo]) -> None:
    for demo in demos.values():
        assert list(demo.temporary.iterdir()) == []
        assert processes_in(demo.temporary) == []


def test_a_demo_that_is_terminated_leaves_nothing_behind(tmp_path: Path) -> None:
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    temporary.mkdir()
    demo = Command.start("scripts.demo", str(RING), str(out), TMPDIR=str(temporary))
    demo.wait_for_line("✓ Supabase")
    assert demo.stop(signal.SIGTERM) == 128 + signal.SIGTERM
    assert demo.lines[-1] == "The demo was stopped."
    assert processes_in(temporary) == []
    assert list(temporary.iterdir()) == []


def test_a_demo_that_is_killed_leaves_nothing_behind_for_long(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    demo = Command.start("scripts.demo", str(RING), str(tmp_path / "out"), TMPDIR=str(temporary))
    demo.wait_for_line("✓ Supabase")
    demo.stop(signal.SIGKILL)
    eventually(lambda: processes_in(temporary) == [], "an end of all processes")
    eventually(lambda: list(temporary.iterdir()) == [], "an empty folder")


def test_a_demo_ends_at_its_time_limit(tmp_path: Path) -> None:
    code, output = run(
        "scripts.demo", str(RING), str(tmp_path / "out"), TMPDIR=str(tmp_path), DEMO_TIMEOUT_SECONDS="0.5"
    )
    assert (code, output.splitlines()[-1]) == (1, "The demo took longer than 0.5 seconds (DEMO_TIMEOUT_SECONDS).")
    assert processes_in(tmp_path) == []


def test_a_photograph_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.jpg"
    assert run("scripts.demo", str(missing), str(tmp_path)) == (1, f"{missing}: No such file or directory")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.touch()
    assert run("scripts.demo", str(RING), str(out)) == (1, f"{out}: File exists")


@pytest.mark.skipif(not (ROOT / ".venv" / ".local").exists(), reason="make would first install everything")
def test_make_says_how_to_call_it() -> None:
    made = subprocess.run(["make", "demo", f"PHOTO={RING}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode != 0
    assert made.stderr.startswith("Say which photograph and where to: make demo PHOTO=ring.jpg OUT=folder\n")
