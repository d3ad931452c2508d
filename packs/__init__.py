"""Scene packs: which scenes to make and in what words, as versioned data (`<name>.yaml` beside this file)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from domain import Capability, SceneMode
from errors import ConfigError

FOLDER = Path(__file__).parent

#: Keys become part of step names.
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2560)]  # Reve's limit


class Scene(BaseModel):
    """One styled picture to make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Key
    label: str = Field(min_length=1, max_length=60)
    mode: SceneMode
    prompt: Prompt

    @field_validator("mode")
    @classmethod
    def _refuse_what_no_engine_does(cls, mode: SceneMode) -> SceneMode:
        if mode is SceneMode.LOCKED:  # a promise about pixels must not be made before something keeps it
            raise ValueError("locked scenes cannot be made yet: nothing lays the product's own pixels on a background")
        return mode


class ScenePack(BaseModel):
    """A set of scenes. `version` moves on with every change of words: finished pictures are told apart by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Key
    version: int = Field(ge=1)
    description: str
    instructions: dict[Capability, Prompt]  #: words for the steps before the scenes
    scenes: tuple[Scene, ...] = Field(min_length=1, max_length=8)

    @model_validator(mode="after")
    def _keys_are_unique(self) -> Self:
        if len({scene.key for scene in self.scenes}) < len(self.scenes):
            raise ValueError("two scenes have the same key")
        return self

    def with_overrides(self, prompts: tuple[str | None, ...], instructions: dict[Capability, str]) -> ScenePack:
        """The same pack with an operator's own words in place of some of its prompts, by position."""
        scenes = tuple(
            scene.model_copy(update={"prompt": prompts[place]}) if place < len(prompts) and prompts[place] else scene
            for place, scene in enumerate(self.scenes)
        )
        return self.model_copy(update={"scenes": scenes, "instructions": self.instructions | instructions})


@cache
def load_pack(name: str) -> ScenePack:
    """The pack of that name.

    Raises:
        ConfigError: There is none, or its file breaks the schema above.
    """
    file = FOLDER / f"{name}.yaml"
    if file.parent != FOLDER or not file.is_file():
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise ConfigError(f"There is no scene pack called {name!r}; there are: {known}.")
    try:
        pack = ScenePack.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"The scene pack {file.name} cannot be read: {error}") from error
    if pack.name != name:
        raise ConfigError(f"The scene pack {file.name} calls itself {pack.name!r}.")
    return pack
