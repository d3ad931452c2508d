from __future__ import annotations

from pathlib import Path

import pytest

import packs
from domain import Capability
from errors import ConfigError
from packs import load_pack


@pytest.mark.parametrize("name", sorted(file.stem for file in packs.FOLDER.glob("*.yaml")))
def test_every_shipped_pack_can_be_read(name: str) -> None:
    pack = load_pack(name)
    assert pack.name == name
    assert {Capability.REMOVE_BACKGROUND, Capability.RESTORE, Capability.COLOURISE} <= pack.instructions.keys()


def test_the_jewellery_scenes_are_those_that_were_promised() -> None:
    """JW-28 ... JW-32, JW-35."""
    scenes = {scene.label: scene.prompt.lower() for scene in load_pack("jewellery").scenes}
    assert list(scenes) == ["Stone — Classic", "Velvet — Boutique", "Marble — Editorial", "Charcoal — Dramatic"]
    promised = {
        "Stone — Classic": ("dark navy", "stone", "front-facing", "centred", "soft", "upper left"),
        "Velvet — Boutique": (
            "burgundy velvet cushion",
            "45 degrees front-left",
            "warm golden",
            "upper right",
            "bokeh",
        ),
        "Marble — Editorial": ("white carrara marble", "30 degrees above", "bright diffused daylight"),
        "Charcoal — Dramatic": ("charcoal-black gradient", "60 degrees", "hard spotlight from above", "amber rim"),
    }
    for label, words in promised.items():
        assert all(word in scenes[label] for word in words), label
        assert "preserve the piece's design, colour and proportions" in scenes[label]


def test_own_words_replace_single_prompts_by_position() -> None:
    """JW-33, JW-49."""
    pack = load_pack("jewellery")
    changed = pack.with_overrides((None, "on silk", None, None), {Capability.REMOVE_BACKGROUND: "cut it out"})
    assert [scene.prompt for scene in changed.scenes] == [
        pack.scenes[0].prompt, "on silk", pack.scenes[2].prompt, pack.scenes[3].prompt,
    ]  # fmt: skip
    assert changed.instructions[Capability.REMOVE_BACKGROUND] == "cut it out"
    assert changed.instructions[Capability.RESTORE] == pack.instructions[Capability.RESTORE]


@pytest.mark.parametrize("name", ["nothing", "../jewellery", "/etc/passwd", "", "sub/jewellery"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="jewellery"):
        load_pack(name)


HEAD = "name: broken\nversion: 1\ndescription: d\ninstructions: {}\nscenes: "
SCENE = "{key: a, label: A, mode: reimagined, prompt: p}"


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        "name: other\nversion: 1",
        (HEAD + f"[{SCENE}]").replace("name: broken", "name: other"),
        (HEAD + f"[{SCENE}]").replace("version: 1", "version: 0"),
        HEAD + "[]",
        HEAD + f"[{SCENE}]".replace("reimagined", "flat"),
        HEAD + f"[{SCENE}]".replace("reimagined", "locked"),
        HEAD + f"[{SCENE}, {SCENE}]",
        HEAD + f"[{SCENE}]\nextra: 1",
    ],
)
def test_a_broken_pack_is_refused(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "FOLDER", tmp_path)
    (tmp_path / "broken.yaml").write_text(broken)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_pack("broken")
