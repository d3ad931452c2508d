"""One step as a recipe plans it."""

from __future__ import annotations

from dataclasses import dataclass

from domain import Capability, SceneMode

#: What the first steps take: the uploaded picture.
UPLOAD = "upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """Steps that take the same finished picture start together; a step that others take must succeed."""

    name: str  #: "cutout", "variant:stone" ...
    label: str  #: for people
    capability: Capability
    prompt: str
    takes: str  #: the name of the step whose picture it works on, or UPLOAD
    scene_key: str | None = None  #: set on the pictures that a customer will see
    scene_mode: SceneMode | None = None
    scene_place: int | None = None  #: 1-based, for the object's name
    remake: int | None = None  #: set on a scene that is made again: the number of the run that was first to do so

    @property
    def is_scene(self) -> bool:
        return self.scene_key is not None
