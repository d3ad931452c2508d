"""The empty stage: backdrop, floor in perspective, a cushion or plinth, and lights out of focus."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Floats, floats
from sandbox.pictures.scene.description import Scene, Support
from sandbox.pictures.scene.lighting import lit_texture
from sandbox.pictures.scene.materials import Material, linear, make_texture
from sandbox.pictures.scene.placing import Layout

_TEXTURE_SIDE = 768  # pixels; the floor shows about one texture across the frame
_BACKDROP_SIDE = 512  # out of focus, so a smaller one is enough


def build_stage(scene: Scene, layout: Layout, random: np.random.Generator) -> Floats:
    """H x W x 3 float32, linear: every surface in its own colour, relief lit, before light falloff and shadows."""
    stage = _backdrop(scene, layout, random)
    if scene.bokeh:
        _add_bokeh(stage, scene, layout, random)
    _lay_floor(stage, scene, layout, random)
    if scene.support is Support.CUSHION:
        _add_cushion(stage, scene, layout, random)
    elif scene.support is Support.PLINTH:
        _add_plinth(stage, scene, layout, random)
    return stage


def _backdrop(scene: Scene, layout: Layout, random: np.random.Generator) -> Floats:
    texture = make_texture(scene.backdrop, scene.backdrop_colour, random, size=_BACKDROP_SIDE, sculpted=scene.sculpted)
    lit = lit_texture(texture, scene.light, upright=True)
    softness = 1.2 if scene.backdrop in (Material.STONE, Material.CONCRETE, Material.WOOD) else 2.5
    if scene.bokeh:
        softness = 9.0  # lights that far out of focus leave no texture either
    blurred = cv2.GaussianBlur(lit, (0, 0), softness)
    side = max(layout.width, layout.height)
    picture = cv2.resize(blurred, (side, side), interpolation=cv2.INTER_LINEAR)
    picture = np.ascontiguousarray(picture[: layout.height, : layout.width])
    # Lighter around the product, darker towards the top: the sweep of a studio backdrop.
    rows = np.arange(layout.height, dtype=np.float32)[:, None] / layout.height
    columns = np.arange(layout.width, dtype=np.float32)[None, :] / layout.width
    distance = (columns - scene.place) ** 2 / 0.22 + (rows - 0.52) ** 2 / 0.16
    lift = 0.72 + (0.55 + 0.35 * (1.0 - scene.light.ambient)) * np.exp(-distance)
    return picture * lift[..., None].astype(np.float32)


def _add_bokeh(stage: Floats, scene: Scene, layout: Layout, random: np.random.Generator) -> None:
    """Soft discs of light in the upper part of the backdrop, in place."""
    shrink = 2  # half size: the discs are soft
    height, width = layout.height // shrink, layout.width // shrink
    lights: Floats = np.zeros((height, width, 3), dtype=np.float32)
    for _ in range(26):
        colour = linear(scene.bokeh[int(random.integers(len(scene.bokeh)))])
        x, y = random.uniform(0.0, 1.0) * width, random.beta(1.3, 2.0) * 0.75 * height
        radius = random.uniform(0.016, 0.055) * width
        left, top = max(0, round(x - radius) - 3), max(0, round(y - radius) - 3)
        patch = lights[top : round(y + radius) + 4, left : round(x + radius) + 4]
        drawn: Bytes = np.zeros(patch.shape[:2], dtype=np.uint8)
        centre = (round((x - left) * 16), round((y - top) * 16))
        cv2.circle(drawn, centre, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
        disc = drawn.astype(np.float32) / 255.0
        ring = disc - cv2.erode(disc, np.ones((5, 5), np.uint8))
        patch += (random.uniform(0.10, 0.42) * (disc + 0.5 * ring))[..., None] * colour
    lights = cv2.GaussianBlur(lights, (0, 0), 1.5)
    stage += cv2.resize(lights, (layout.width, layout.height), interpolation=cv2.INTER_CUBIC)


def _lay_floor(stage: Floats, scene: Scene, layout: Layout, random: np.random.Generator) -> None:
    """Draw the floor over the lower part of the stage, in place, in one-point perspective."""
    texture = make_texture(scene.surface, scene.surface_colour, random, size=_TEXTURE_SIDE, sculpted=scene.sculpted)
    lit = lit_texture(texture, scene.light, upright=False)
    first = max(0, int(layout.horizon))
    height, width = layout.height - first, layout.width
    if height <= 0:
        return
    # The rows converge at a vanishing line above the floor's far edge; the steeper the view, the farther above.
    vanishing = layout.horizon - layout.height * (
        0.10 + 1.1 * (max(scene.elevation, 40.0 * layout.lying) / 60.0) ** 1.6
    )
    rows = np.arange(first, layout.height, dtype=np.float32)
    depth = (layout.base - vanishing) / (rows - vanishing)  # 1 at the product, larger behind it
    vanishing_x = width * (0.5 + 0.35 * scene.turn)
    texel = _TEXTURE_SIDE / width
    columns = np.arange(width, dtype=np.float32)
    across = (columns[None, :] - vanishing_x) * depth[:, None] * texel + 0.5 * _TEXTURE_SIDE
    along = np.repeat(((2.2 - depth) * 0.62 * (layout.base - vanishing) * texel)[:, None], width, axis=1)
    near = cv2.remap(lit, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    far = cv2.remap(
        cv2.GaussianBlur(lit, (0, 0), 5.0), across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    # Out of focus with distance from the product, behind it more than before it.
    defocus = np.clip(np.abs(rows - layout.base + 0.05 * layout.height) / (0.55 * layout.height) - 0.12, 0.0, 1.0)[
        :, None, None
    ]
    floor = near + defocus * (far - near)
    if first == 0 and layout.horizon < 0:
        stage[:] = floor
        return
    seamless = scene.surface is Material.PLAIN and scene.backdrop is Material.PLAIN
    edge = (0.20 if seamless else 0.10 if layout.lying else 0.035) * layout.height
    cover = np.clip((rows - layout.horizon) / edge, 0.0, 1.0)
    cover = (cover * cover * (3.0 - 2.0 * cover))[:, None, None]
    stage[first:] += cover * (floor - stage[first:])


def _add_cushion(stage: Floats, scene: Scene, layout: Layout, random: np.random.Generator) -> None:
    """A puffed cushion under the product, in place."""
    height, width = layout.height, layout.width
    half_width = 0.47 * width
    half_height = (0.34 if layout.lying else 0.19) * height
    middle_x = layout.centre[0]
    middle_y = layout.centre[1] + 0.03 * height if layout.lying else layout.base + 0.035 * height
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (columns - middle_x) / half_width
    down = (rows - middle_y) / half_height
    # A superellipse with drawn-in sides: corners stand out, as on a stuffed square.
    squared_across, squared_down = across * across, down * down
    twice_angle_cosine = (squared_across - squared_down) / (squared_across + squared_down + 1e-6)
    pinch = 1.0 + 0.07 * twice_angle_cosine * twice_angle_cosine
    cubes = squared_across * np.abs(across) + squared_down * np.abs(down)
    reach = pinch * cv2.pow(cubes, 1.0 / 3.0)
    cover = np.clip((1.0 - reach) * half_height / 2.0, 0.0, 1.0)
    inside = np.clip(1.0 - cv2.pow(reach, 2.2), 0.0, 1.0)
    puff = cv2.pow(inside, 0.55) * half_height * 0.75
    sag = np.exp(
        -(
            ((columns - middle_x) / (0.24 * width)) ** 2
            + ((rows - middle_y + 0.3 * half_height) / (0.5 * half_height)) ** 2
        )
    )
    texture = make_texture(scene.surface, scene.surface_colour, random, size=_TEXTURE_SIDE)
    creases = cv2.resize(texture.relief, (width, height), interpolation=cv2.INTER_LINEAR)
    relief = cv2.GaussianBlur(puff - 0.16 * half_height * sag, (0, 0), 2.0) + 0.35 * creases * cv2.sqrt(inside)
    light_right, light_down, _ = scene.light.direction
    towards = floats(0.8 * light_right, 0.5 * light_down, 0.75)
    towards /= np.linalg.norm(towards)
    slope_x = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    slope_y = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    length = cv2.sqrt(slope_x * slope_x + slope_y * slope_y + 1.0)
    shade = np.clip((towards[2] - slope_x * towards[0] - slope_y * towards[1]) / length, 0.0, 1.6) * 1.15 + 0.10
    shade += texture.sheen * 0.75 * (1.0 - 1.0 / length) * np.clip(shade, 0.25, 1.0)
    piping = np.exp(-(((reach - 0.985) * half_height / (0.008 * height)) ** 2))
    albedo = cv2.resize(texture.albedo, (width, height), interpolation=cv2.INTER_LINEAR)
    cushion = albedo * (shade * (1.0 + 0.35 * piping))[..., None]
    coarse = 8  # the shadow under the cushion is so soft that an eighth of the size carries it
    under: Bytes = np.zeros((-(-height // coarse), -(-width // coarse)), dtype=np.uint8)
    foot = (round(middle_x / coarse), round((middle_y + 0.75 * half_height) / coarse))
    cv2.ellipse(
        under, foot, (round(1.02 * half_width / coarse), round(0.45 * half_height / coarse)), 0, 0, 360, 255, -1
    )
    soft = cv2.GaussianBlur(under.astype(np.float32) / 255.0, (0, 0), 0.03 * height / coarse)
    stage *= 1.0 - 0.7 * cv2.resize(soft, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    stage += cover[..., None] * (cushion - stage)


def _add_plinth(stage: Floats, scene: Scene, layout: Layout, random: np.random.Generator) -> None:
    """A round plinth under the product, in place."""
    height, width = layout.height, layout.width
    texture = make_texture(scene.surface, scene.surface_colour, random, size=_BACKDROP_SIDE, sculpted=False)
    lit = lit_texture(texture, scene.light, upright=False)
    radius = 0.40 * width if layout.lying else max(0.30 * width, 0.56 * layout.extent)
    flatness = float(np.clip(np.sin(np.radians(max(scene.elevation, 14.0))), 0.24, 0.7))
    top_y = layout.base - 0.35 * radius * flatness
    if layout.lying:
        flatness, top_y = 0.75, layout.centre[1]
    middle_x = layout.centre[0]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (columns - middle_x) / radius
    surface = cv2.resize(lit, (width, height), interpolation=cv2.INTER_LINEAR)
    # The drum: lit from the side the light is on, darker below.
    chord = np.sqrt(np.clip(1.0 - across * across, 0.0, 1.0))
    rim_y = top_y + radius * flatness * chord
    side_light = 0.42 + 0.40 * np.clip(0.35 * chord + 0.9 * across * scene.light.direction[0], -0.5, 1.0)
    side_light *= np.clip(1.0 - 0.55 * (rows - rim_y) / (0.35 * height), 0.25, 1.0)
    drum = np.clip((1.0 - np.abs(across)) * radius / 1.5, 0.0, 1.0) * (rows > top_y)
    stage += drum[..., None] * (surface * side_light[..., None] - stage)
    distance = np.sqrt(across * across + ((rows - top_y) / (radius * flatness)) ** 2)
    top = np.clip((1.0 - distance) * radius * flatness / 1.2, 0.0, 1.0)
    edge_light = 1.06 + 0.25 * np.exp(-(((distance - 0.985) / 0.012) ** 2))
    stage += top[..., None] * (surface * edge_light[..., None] - stage)
