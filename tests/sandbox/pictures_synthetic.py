# mypy: disable-error-code="no-any-return"
"""Product photographs with exactly known masks: drawn products on drawn backgrounds with cast shadows.

Every photograph follows from its number alone. Products are the exact-mask samples, or silhouettes (bands, hoops,
bead chains, bottles, mugs, watches, shoes) inflated to a relief and shaded as metal, ceramic, pearl, glass or leather.
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from sandbox.pictures.scene.materials import Material, make_texture

Array = npt.NDArray[Any]

_ROOT = Path(__file__).resolve().parents[2]
_SAMPLES = ("ring", "necklace", "earrings")
_SHAPES = ("band", "hoops", "beads", "bottle", "mug", "watch", "shoe", "bangle", "pendant")


@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """A photograph and the truth about it."""

    name: str
    #: H x W x 3 uint8 RGB.
    colour: Array
    #: H x W bool.
    mask: Array


def photograph(number: int, *, long_side: int = 900) -> Photograph:
    """The photograph of this number."""
    random = np.random.default_rng(1000 + number)
    width, height = [(1.0, 1.0), (1.0, 0.75), (0.8, 1.0)][number % 3]
    shape = (round(height * long_side), round(width * long_side))
    backgrounds = list(_BACKGROUNDS)
    background_name = backgrounds[number % len(backgrounds)]
    background = _lit(_BACKGROUNDS[background_name](random, shape), random)

    if number % 4 == 3:
        kind = _SAMPLES[(number // 4) % len(_SAMPLES)]
        product, alpha = _sample(kind)
    else:
        kind = _SHAPES[(number * 5 + number // 9) % len(_SHAPES)]
        product, alpha = _drawn(kind, random)
    product, alpha = _arranged(product, alpha, shape, random)

    hardness = random.uniform(0.0, 1.0)
    scene = background * _shadow(product, alpha, random, hardness)
    scene = scene + alpha[..., None] * (product - scene)
    scene = cv2.GaussianBlur(scene, (0, 0), random.uniform(0.3, 0.8))
    display = np.clip(scene, 0.0, 1.0) ** (1 / 2.2) * 255.0
    display = display + random.normal(0.0, random.uniform(0.4, 2.2), display.shape)
    encoded = cv2.imencode(
        ".jpg",
        display.clip(0, 255).astype(np.uint8)[..., ::-1],
        [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(82, 96))],
    )[1]
    colour = np.array(Image.open(io.BytesIO(encoded.tobytes())))
    return Photograph(name=f"{number:03d} {kind} on {background_name}", colour=colour, mask=alpha > 0.5)


def _sample(name: str) -> tuple[Array, Array]:
    colour = np.array(Image.open(_ROOT / "samples" / f"{name}.jpg")).astype(np.float32) / 255.0
    mask = np.array(Image.open(_ROOT / "tests" / "samples" / f"{name}.mask.png"))
    # One pixel in, so that the old background does not come along at the edge.
    alpha = cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3), np.uint8)).astype(np.float32) / 255.0, (0, 0), 0.8)
    return (colour**2.2).astype(np.float32), alpha


def _drawn(kind: str, random: np.random.Generator) -> tuple[Array, Array]:
    side = 1600
    parts: list[tuple[Array, str, Any]] = []
    metals = [(0.83, 0.62, 0.30), (0.78, 0.78, 0.80), (0.80, 0.55, 0.45), (0.90, 0.88, 0.84)]
    metal = metals[int(random.integers(len(metals)))]
    vivid = random.dirichlet((0.7, 0.7, 0.7)) * 0.9
    tilt = float(random.uniform(-30, 30))

    def ellipse(centre: tuple[float, float], axes: tuple[float, float], thickness: int, angle: float = 0.0) -> Array:
        layer = np.zeros((side, side), np.uint8)
        cv2.ellipse(
            layer,
            (round(centre[0]), round(centre[1])),
            (round(axes[0]), round(axes[1])),
            angle,
            0,
            360,
            255,
            thickness,
            cv2.LINE_AA,
        )
        return layer

    def polygon(points: list[tuple[float, float]]) -> Array:
        layer = np.zeros((side, side), np.uint8)
        cv2.fillPoly(layer, [np.array(points, np.int32)], 255, cv2.LINE_AA)
        return layer

    if kind == "band":
        parts.append(
            (
                ellipse((800, 900), (480, 480 * random.uniform(0.6, 1.0)), int(random.integers(50, 130)), tilt),
                "metal",
                metal,
            )
        )
        if random.random() < 0.6:
            parts.append(
                (
                    polygon([(640, 330), (960, 330), (1040, 420), (800, 640), (560, 420)]),
                    "glass",
                    (0.8, 0.85, 0.9) if random.random() < 0.5 else vivid,
                )
            )
    elif kind == "bangle":
        parts.append((ellipse((800, 800), (640, 330), int(random.integers(40, 90)), tilt / 3), "metal", metal))
    elif kind == "hoops":
        for x in (480, 1120):
            parts.append((ellipse((x, 700), (230, 300), int(random.integers(14, 40))), "metal", metal))
            parts.append(
                (
                    ellipse((x, 1090), (80, 110), -1),
                    "glass" if random.random() < 0.5 else "pearl",
                    vivid if random.random() < 0.6 else (0.85, 0.83, 0.8),
                )
            )
    elif kind == "beads":
        radius, count = random.uniform(22, 45), 46
        colour: Any = vivid if random.random() < 0.5 else (0.86, 0.83, 0.79)
        start, sweep = random.uniform(0, 6.28), random.uniform(4.2, 6.2)
        for angle in np.linspace(start, start + sweep, count):
            bead = ellipse((800 + 620 * np.cos(angle), 800 + 430 * np.sin(angle)), (radius, radius), -1)
            parts.append((bead, "pearl", colour))
    elif kind == "bottle":
        body = polygon(
            [
                (560, 560),
                (700, 420),
                (700, 180),
                (900, 180),
                (900, 420),
                (1040, 560),
                (1040, 1450),
                (1000, 1490),
                (600, 1490),
                (560, 1450),
            ]
        )
        parts.append(
            (
                body,
                random.choice(["ceramic", "glass", "leather"]),
                vivid if random.random() < 0.7 else (0.85, 0.85, 0.84),
            )
        )
        parts.append((polygon([(690, 100), (910, 100), (910, 250), (690, 250)]), "metal", metal))
        parts.append((polygon([(562, 850), (1038, 850), (1038, 1200), (562, 1200)]), "ceramic", (0.9, 0.88, 0.8)))
    elif kind == "mug":
        colour = vivid if random.random() < 0.5 else (0.9, 0.9, 0.88)
        parts.append((ellipse((1150, 820), (210, 260), 70), "ceramic", colour))
        parts.append(
            (
                polygon([(400, 420), (1120, 420), (1080, 1330), (1000, 1400), (520, 1400), (440, 1330)]),
                "ceramic",
                colour,
            )
        )
        parts.append((ellipse((760, 420), (360, 95), -1), "leather", 0.35 * np.array(colour)))
    elif kind == "watch":
        strap = (0.05, 0.045, 0.04) if random.random() < 0.5 else (0.30, 0.14, 0.06)
        parts.append(
            (
                polygon(
                    [(640, 60), (960, 60), (1000, 500), (1000, 1100), (960, 1540), (640, 1540), (600, 1100), (600, 500)]
                ),
                "leather",
                strap,
            )
        )
        parts.append((ellipse((800, 800), (330, 330), -1), "metal", metal))
        parts.append(
            (
                ellipse((800, 800), (265, 265), -1),
                "ceramic",
                (0.9, 0.9, 0.88) if random.random() < 0.5 else (0.02, 0.03, 0.07),
            )
        )
    elif kind == "shoe":
        colour = vivid if random.random() < 0.6 else (0.06, 0.05, 0.05)
        parts.append(
            (
                polygon(
                    [
                        (150, 620),
                        (420, 560),
                        (620, 700),
                        (900, 860),
                        (1250, 920),
                        (1450, 1040),
                        (1450, 1130),
                        (150, 1130),
                    ]
                ),
                "leather",
                colour,
            )
        )
        parts.append((polygon([(130, 1110), (1470, 1110), (1460, 1210), (140, 1210)]), "ceramic", (0.88, 0.87, 0.84)))
    else:
        chain = np.zeros((side, side), np.uint8)
        cv2.ellipse(chain, (800, 250), (520, 800), 0, 15, 165, 255, int(random.integers(9, 22)), cv2.LINE_AA)
        parts.append((chain, "metal", metal))
        parts.append((ellipse((800, 1170), (150, 200), -1), "glass", vivid))

    drawn = np.zeros((side, side, 3), np.float32)
    alpha = np.zeros((side, side), np.float32)
    for layer, finish, base in parts:
        share = layer.astype(np.float32) / 255.0
        shaded = _shaded(layer, finish, np.array(base, np.float32), random)
        drawn += share[..., None] * (shaded - drawn)
        alpha = np.maximum(alpha, share)
    return drawn, alpha


def _shaded(layer: Array, finish: str, base: Array, random: np.random.Generator) -> Array:
    """Inflate a silhouette and shade it under a fixed studio of two soft boxes and a dark room."""
    distance = cv2.distanceTransform((layer > 127).astype(np.uint8), cv2.DIST_L2, 5)
    thickness = max(4.0, float(np.quantile(distance[distance > 0], 0.97)))
    part = np.clip(distance / thickness, 0.0, 1.0)
    relief = cv2.GaussianBlur(np.sqrt(1.0 - (1.0 - part) ** 2) * thickness, (0, 0), max(1.2, 0.06 * thickness))
    slope_x, slope_y = (
        cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=0.125),
        cv2.Sobel(relief, cv2.CV_32F, 0, 1, scale=0.125),
    )
    length = np.sqrt(slope_x**2 + slope_y**2 + 1.0)
    x, y, z = -slope_x / length, -slope_y / length, 1.0 / length
    lambert = np.clip(-0.5 * x - 0.6 * y + 0.62 * z, 0.0, 1.0)
    glint = np.clip(-0.42 * x - 0.5 * y + 0.76 * z, 0.0, 1.0)
    if finish == "metal":
        mirror = (
            0.30
            + 0.55 * np.clip(1.4 * -y, 0, 1)
            + 0.5 * (np.abs(x + 0.35) < 0.16)
            - 0.22 * (np.abs(y - 0.3) < 0.14)
            + 0.25 * z
        )
        return (mirror[..., None] * base + 0.8 * (glint**60)[..., None]).astype(np.float32).clip(0, 1.2)
    if finish == "pearl":
        sheen = 0.06 * np.stack([x, y, -x], axis=-1)
        return (
            ((0.35 + 0.65 * lambert)[..., None] * (base + sheen) + 0.5 * (glint**40)[..., None])
            .astype(np.float32)
            .clip(0, 1.2)
        )
    if finish == "glass":
        facets = 0.25 * np.sign(np.sin(14 * x + 3) * np.sin(11 * y + 1))
        return (
            ((0.45 + 0.5 * lambert + facets)[..., None] * base + 0.7 * (glint**50)[..., None])
            .astype(np.float32)
            .clip(0, 1.2)
        )
    if finish == "leather":
        fine = cv2.GaussianBlur(random.standard_normal(layer.shape).astype(np.float32), (0, 0), 2.5)
        return (
            ((0.3 + 0.8 * lambert + 0.5 * fine)[..., None] * base + 0.05 * (glint**12)[..., None])
            .astype(np.float32)
            .clip(0, 1.2)
        )
    return ((0.25 + 0.8 * lambert)[..., None] * base + 0.5 * (glint**80)[..., None]).astype(np.float32).clip(0, 1.2)


def _arranged(product: Array, alpha: Array, shape: tuple[int, int], random: np.random.Generator) -> tuple[Array, Array]:
    """Scaled, turned and moved into an H x W frame, sometimes twice."""
    rows, columns = np.flatnonzero((alpha > 0.1).any(axis=1)), np.flatnonzero((alpha > 0.1).any(axis=0))
    product = product[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    alpha = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = shape
    copies = 2 if random.random() < 0.2 else 1
    fill = random.uniform(0.5, 0.8) if copies == 1 else 0.42
    factor = fill * min(width / alpha.shape[1], height / alpha.shape[0])
    spots = [(random.uniform(0.42, 0.58), random.uniform(0.44, 0.54))] if copies == 1 else [(0.27, 0.48), (0.73, 0.5)]
    out_colour, out_alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    # Area-average first: warping down by more than two would alias.
    shrink = (max(1, round(alpha.shape[1] * factor)), max(1, round(alpha.shape[0] * factor)))
    premultiplied = cv2.resize(product * alpha[..., None], shrink, interpolation=cv2.INTER_AREA)
    small = cv2.resize(alpha, shrink, interpolation=cv2.INTER_AREA)
    for spot in spots:
        turn = cv2.getRotationMatrix2D((shrink[0] / 2, shrink[1] / 2), random.uniform(-25, 25), 1.0)
        turn[:, 2] += (spot[0] * width - shrink[0] / 2, spot[1] * height - shrink[1] / 2)
        moved_alpha = cv2.warpAffine(small, turn, (width, height), flags=cv2.INTER_LINEAR)
        moved = cv2.warpAffine(premultiplied, turn, (width, height), flags=cv2.INTER_LINEAR)
        out_colour = out_colour * (1 - moved_alpha[..., None]) + moved
        out_alpha = np.maximum(out_alpha, moved_alpha)
    return out_colour / np.maximum(out_alpha[..., None], 1e-3), out_alpha


def _shadow(product: Array, alpha: Array, random: np.random.Generator, hardness: float) -> Array:
    """H x W x 3 factors of the light left; sometimes coloured by the product, as light through glass."""
    height, width = alpha.shape
    shift_x, shift_y = random.uniform(-0.10, 0.10) * width, random.uniform(0.01, 0.09) * height
    lean = random.uniform(-0.5, 0.5)
    matrix = np.array(
        [[1, -lean, shift_x + lean * height * 0.6], [0, random.uniform(0.75, 1.0), shift_y + 0.05 * height]], np.float32
    )
    blur = 1.0 + (1.0 - hardness) * 0.03 * width
    cast = cv2.GaussianBlur(cv2.warpAffine(alpha, matrix, (width, height)), (0, 0), blur)
    touch = cv2.GaussianBlur(alpha, (0, 0), 0.012 * width)
    blocked = np.full(3, random.uniform(0.3, 0.75), np.float32)
    if random.random() < 0.3:  # glass lets its own colour through
        mean = product[alpha > 0.5].mean(axis=0)
        blocked *= 1.0 - 0.6 * mean / mean.max()
    left = 1.0 - cast[..., None] * blocked
    return (left * (1.0 - 0.3 * touch[..., None])).clip(0.05, 1.0)


def _lit(background: Array, random: np.random.Generator) -> Array:
    """Uneven, tinted light and a vignette over an H x W x 3 linear background."""
    height, width = background.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle, slope = random.uniform(0, 6.28), random.uniform(0.0, 0.35)
    light = 1.0 + slope * (np.cos(angle) * x + np.sin(angle) * y) - random.uniform(0.0, 0.3) * (x * x + y * y) / 2
    tint = np.array([1 + random.uniform(-0.12, 0.12), 1.0, 1 + random.uniform(-0.12, 0.12)], np.float32)
    return (background * light[..., None] * tint).astype(np.float32)


def _flat(level: float, spread: float) -> Any:
    def make(random: np.random.Generator, shape: tuple[int, int]) -> Array:
        colour = np.clip(level + random.uniform(-spread, spread, 3), 0.01, 1.0) ** 2.2
        return np.broadcast_to(colour.astype(np.float32), (*shape, 3)).copy()

    return make


def _material(material: Material, low: float, high: float) -> Any:
    def make(random: np.random.Generator, shape: tuple[int, int]) -> Array:
        level = random.uniform(low, high)
        red, green, blue = np.clip(level * (1 + random.uniform(-0.25, 0.25, 3)), 0.03, 0.95).tolist()
        texture = make_texture(material, (red, green, blue), random, size=max(shape))
        relief = cv2.Sobel(texture.relief, cv2.CV_32F, 1, 1, scale=0.2)
        return (texture.albedo * (1 + np.clip(relief, -0.3, 0.3))[..., None])[: shape[0], : shape[1]]

    return make


def _wall_and_floor(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    wall = _flat(0.85, 0.08)(random, shape)
    line = round(shape[0] * random.uniform(0.55, 0.8))
    wall[line:] *= random.uniform(0.6, 0.9)
    return cv2.GaussianBlur(wall, (0, 0), 2.0)


def _oak(random: np.random.Generator, shape: tuple[int, int]) -> Array:
    shade = random.uniform(0.5, 1.15)
    texture = make_texture(Material.WOOD, (0.66 * shade, 0.47 * shade, 0.30 * shade), random, size=max(shape))
    return texture.albedo[: shape[0], : shape[1]]


_BACKGROUNDS: dict[str, Any] = {
    "white": _flat(0.93, 0.03),
    "oak": _oak,
    "pale": _flat(0.82, 0.10),
    "linen": _material(Material.LINEN, 0.6, 0.9),
    "wall and floor": _wall_and_floor,
    "dark": _flat(0.12, 0.05),
    "marble": _material(Material.MARBLE, 0.85, 0.95),
    "colour": _flat(0.5, 0.35),
    "plaster": _material(Material.CONCRETE, 0.55, 0.9),
    "grey": _flat(0.5, 0.05),
    "slate": _material(Material.STONE, 0.2, 0.5),
}
