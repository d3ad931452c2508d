"""What a scene is made of: the values the prompt is read into and the renderer works from."""

from dataclasses import dataclass
from enum import Enum, auto

from sandbox.pictures.colour_names import Rgb
from sandbox.pictures.scene.materials import Material


class Support(Enum):
    """What the product stands on above the floor."""

    NONE = auto()
    CUSHION = auto()
    PLINTH = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The key light, the fill, and the rim light behind the product."""

    #: From the product towards the light: x to the right, y down, z towards the camera; about unit length.
    direction: tuple[float, float, float] = (-0.5, -0.75, 0.4)
    #: 0 (wrap-around daylight) .. 1 (bare spotlight): sharpness of shadows and narrowness of the lit pool.
    hardness: float = 0.3
    #: Multiplies the linear light of each channel.
    colour: Rgb = (1.0, 0.98, 0.95)
    #: 0 (black beyond the pool) .. 1 (evenly bright everywhere).
    ambient: float = 0.5
    #: Exposure of the whole scene; 1 = as the colours say.
    strength: float = 1.0
    #: sRGB colour of a glow from behind the product, None = no rim light.
    rim: Rgb | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything the renderer needs to know."""

    surface: Material = Material.PLAIN
    surface_colour: Rgb = (0.80, 0.79, 0.77)
    backdrop: Material = Material.PLAIN
    backdrop_colour: Rgb = (0.80, 0.79, 0.77)
    #: Stone only: carved ridges.
    sculpted: bool = False
    support: Support = Support.NONE
    light: Light = Light()
    #: Degrees the camera looks down: 0 = eye level, 90 = straight from above.
    elevation: float = 20.0
    #: Camera turned to the left (-1) .. right (1).
    turn: float = 0.0
    #: Horizontal place of the product in the frame: 0 = left edge, 1 = right edge.
    place: float = 0.5
    #: sRGB colours of out-of-focus lights; empty = none.
    bokeh: tuple[Rgb, ...] = ()
    shadows: bool = True
    #: None = as glossy as the surface is.
    reflections: bool | None = None
    vignette: float = 0.25
