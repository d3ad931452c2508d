# mypy: disable-error-code="no-any-return"
"""Light in the scene: on relief, across the frame, and the shadows, glow and reflections of the product."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Floats, floats
from sandbox.pictures.scene.description import Light
from sandbox.pictures.scene.materials import Texture, linear
from sandbox.pictures.scene.placing import Layout


def lit_texture(texture: Texture, light: Light, *, upright: bool) -> Floats:
    """The texture's colours (N x N x 3, linear) with its relief lit; flat parts keep their albedo.

    Lambert's cosine law plus a Blinn-Phong highlight (Blinn, SIGGRAPH 1977) as strong as the gloss. On a floor the
    texture's y axis runs towards the camera, on an `upright` backdrop it runs down.
    """
    right, down, near = light.direction
    towards = floats(right, down, 0.35 + max(near, 0.0)) if upright else floats(right, near, max(-down, 0.35))
    towards /= np.linalg.norm(towards)
    slope_x = cv2.Sobel(texture.relief, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
    slope_y = cv2.Sobel(texture.relief, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
    length = cv2.sqrt(slope_x * slope_x + slope_y * slope_y + 1.0)
    cosine = (towards[2] - slope_x * towards[0] - slope_y * towards[1]) / length
    shade = np.clip(cosine / towards[2], 0.0, 2.2)
    softness = 0.35 * light.ambient + 0.08  # light from all sides flattens relief
    shade = softness + (1.0 - softness) * shade
    if texture.sheen > 0.0:
        shade += texture.sheen * (1.0 - 1.0 / length) * 2.0 * np.clip(shade, 0.3, 1.5)
    lit = texture.albedo * shade[..., None]
    if texture.gloss > 0.0:
        half = towards + floats(0.0, 0.35, 0.9)
        half /= np.linalg.norm(half)
        facing = np.clip((half[2] - slope_x * half[0] - slope_y * half[1]) / length, 0.0, 1.0)
        flat = float(half[2])
        highlight = cv2.pow(facing, 24.0) - flat**24.0
        # Dark matt stuff has no bright varnish: the highlight keeps part of the colour beneath it.
        tone = 0.7 * texture.albedo + 0.3 * texture.gloss
        lit += (1.3 * texture.gloss * np.maximum(highlight, 0.0))[..., None] * tone
    return lit.astype(np.float32)


def light_field(light: Light, layout: Layout) -> Floats:
    """H x W: how much of the key light reaches each place; about 1 at the product."""
    rows = np.arange(layout.height, dtype=np.float32)[:, None] / layout.height
    columns = np.arange(layout.width, dtype=np.float32)[None, :] / layout.width
    right, down, _ = light.direction
    centre_x, centre_y = layout.centre[0] / layout.width, layout.centre[1] / layout.height
    radius = float(np.interp(light.hardness, (0.0, 0.3, 1.0), (0.95, 0.70, 0.40)))
    distance = ((columns - centre_x - 0.14 * right) / radius) ** 2 + ((rows - centre_y - 0.12 * down) / radius) ** 2
    pool = np.exp(-1.1 * distance)
    tilt = 1.0 + 0.42 * (1.0 - 0.5 * light.ambient) * ((columns - centre_x) * right + (rows - centre_y) * down)
    field = light.ambient + (1.08 - light.ambient) * pool
    return (light.strength * field * np.clip(tilt, 0.3, 1.8)).astype(np.float32)


def shadow_map(alpha: Bytes, light: Light, layout: Layout, *, elevation: float) -> Floats:
    """H x W, 0..1: the share of light left on the ground under and behind the product."""
    shrink = 0.5  # shadows are soft: half size is enough and four times as fast
    small = cv2.resize(alpha, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    unit = layout.extent * shrink / 100.0  # one percent of the product's size, in pixels of the small map
    depth = 0.38 + 0.42 * light.hardness * (1.0 - 0.4 * light.ambient)
    shadow = (
        _flat_shadow(small, light, unit, depth)
        if layout.lying
        else _standing_shadow(small, light, unit, depth, elevation)
    )
    full = cv2.resize(shadow, (layout.width, layout.height), interpolation=cv2.INTER_LINEAR)
    return np.clip(full, 0.0, 1.0)


def _flat_shadow(alpha: Floats, light: Light, unit: float, depth: float) -> Floats:
    """The silhouette, moved away from the light and blurred; darkest where the product touches the ground."""
    right, down, near = light.direction
    towards_camera = 0.9 - 0.6 * near if down < 0 else -0.6  # light from below throws it backwards
    moved = _shifted(alpha, -3.4 * unit * right, 2.6 * unit * towards_camera)
    cast = cv2.GaussianBlur(moved, (0, 0), unit * (2.4 - 1.7 * light.hardness))
    touch = cv2.GaussianBlur(_shifted(alpha, 0.0, 0.7 * unit), (0, 0), 0.9 * unit)
    around = cv2.GaussianBlur(alpha, (0, 0), 6.0 * unit)
    return (1.0 - depth * cast) * (1.0 - 0.38 * touch) * (1.0 - 0.30 * around)


def _shifted(alpha: Floats, right: float, down: float) -> Floats:
    height, width = alpha.shape
    return cv2.warpAffine(alpha, np.array([[1, 0, right], [0, 1, down]], np.float32), (width, height))


def _standing_shadow(alpha: Floats, light: Light, unit: float, depth: float, elevation: float) -> Floats:
    """Each piece throws its silhouette over the floor from its own foot; the farther, the softer."""
    height, width = alpha.shape
    foreshortening = max(0.22, np.sin(np.radians(elevation)))
    right, down, near = light.direction
    steepness = max(-down, 0.45)
    along = float(np.clip(-right / steepness, -1.4, 1.4))
    towards = float(np.clip(-near / steepness, -1.2, 1.2)) * foreshortening
    if abs(towards) < 0.12:
        towards = -0.12
    light_left = np.ones((height, width), dtype=np.float32)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.3).astype(np.uint8), connectivity=8)
    for piece in range(1, count):
        if stats[piece, cv2.CC_STAT_AREA] < 0.02 * stats[1:, cv2.CC_STAT_AREA].max():
            continue
        body = np.where(labels == piece, alpha, 0.0).astype(np.float32)
        foot = float(stats[piece, cv2.CC_STAT_TOP] + stats[piece, cv2.CC_STAT_HEIGHT])
        foot_line = foot - 1.2 * unit  # the product's round underside hides the very start of its shadow
        if down < 0.2:
            # A point h above the foot lands at (x + along * h, foot + towards * h).
            matrix = np.array(
                [[1, -along, along * foot_line], [0, -towards, foot_line + towards * foot_line]], np.float32
            )
            cast = cv2.warpAffine(body, matrix, (width, height))
            near_foot = cv2.GaussianBlur(cast, (0, 0), unit * (1.6 - 1.1 * light.hardness))
            far_off = cv2.GaussianBlur(cast, (0, 0), unit * (6.0 - 4.0 * light.hardness))
            away = np.abs(np.arange(height, dtype=np.float32) - foot_line)[:, None] / max(
                abs(towards) * 60.0 * unit, 1.0
            )
            blend = np.clip(away, 0.0, 1.0)
            light_left *= 1.0 - depth * ((1.0 - blend) * near_foot + 0.8 * blend * far_off)
        light_left *= 1.0 - _contact(body, foot, unit, foreshortening)
    return light_left


def _contact(body: Floats, foot: float, unit: float, foreshortening: float) -> Floats:
    """The dark line where a piece meets the ground and the dim pool around it."""
    height, width = body.shape
    band_top = max(0, int(foot - 7 * unit))
    footprint = body[band_top : int(foot) + 1].max(axis=0)
    columns = np.flatnonzero(footprint > 0.4)
    contact = np.zeros((height, width), dtype=np.float32)
    if columns.size == 0:
        return contact
    middle, half = float(columns.mean()), max(2.0, 0.5 * float(columns[-1] - columns[0]))
    depth = half * foreshortening
    for grow, blur, weight in ((1.0, 1.0, 0.62), (1.5, 4.5, 0.36)):
        pool: Floats = np.zeros((height, width), dtype=np.float32)
        axes = (max(1, round(grow * half)), max(1, round(grow * 0.7 * depth)))
        cv2.ellipse(pool, (round(middle), round(foot - 0.45 * depth)), axes, 0, 0, 360, 1.0, -1)
        pool = cv2.GaussianBlur(pool, (0, 0), blur * unit)
        contact = contact + weight * pool * (1.0 - contact)
    return contact


def rim_glow(alpha: Bytes, light: Light, layout: Layout) -> Floats | None:
    """H x W x 3 linear light that seems to come from behind the product; None without a rim light."""
    if light.rim is None:
        return None
    small = cv2.resize(alpha, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0
    unit = layout.extent / 200.0
    tight = cv2.GaussianBlur(small, (0, 0), 0.9 * unit)
    near = cv2.GaussianBlur(small, (0, 0), 3.5 * unit)
    wide = cv2.GaussianBlur(small, (0, 0), 14.0 * unit)
    glow = cv2.resize(0.55 * tight**1.5 + 0.26 * near + 0.20 * wide, (layout.width, layout.height))
    return glow[..., None] * linear(light.rim)


def reflection(rgba: Bytes, layout: Layout, *, strength: float) -> tuple[Floats, Floats]:
    """The product mirrored in the ground: colours (H x W x 3, linear) and their opacity (H x W)."""
    height = layout.height
    rows = np.arange(height, dtype=np.int64)
    source = np.clip((2 * layout.base - 2 - rows).astype(np.int64), 0, height - 1)
    mirrored = cv2.GaussianBlur(rgba[source], (0, 0), 0.004 * layout.extent + 0.6)
    below = rows - layout.base
    fade = np.where(below >= -1, np.exp(-np.maximum(below, 0.0) / (0.16 * layout.extent)), 0.0).astype(np.float32)
    opacity = strength * fade[:, None] * mirrored[..., 3].astype(np.float32) / 255.0
    table = (np.arange(256, dtype=np.float32) / 255.0) ** np.float32(2.2)
    return table[mirrored[..., :3]], opacity
