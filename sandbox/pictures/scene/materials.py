# mypy: disable-error-code="no-any-return"
"""Surfaces to stand a product on: colour, relief and gloss of each material, made from noise."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from sandbox.pictures.arrays import Floats, floats
from sandbox.pictures.colour_names import Rgb
from sandbox.pictures.scene.noise import cells, fractal_noise, grain, value_noise, warp


class Material(StrEnum):
    """What a surface is made of."""

    PLAIN = "plain"
    STONE = "stone"
    MARBLE = "marble"
    VELVET = "velvet"
    SILK = "silk"
    LINEN = "linen"
    WOOD = "wood"
    CONCRETE = "concrete"
    SAND = "sand"
    WATER = "water"
    GLASS = "glass"
    PAPER = "paper"
    LEATHER = "leather"
    METAL = "metal"
    MOSS = "moss"
    SNOW = "snow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """A square of material seen straight on."""

    #: N x N x 3 float32, linear light: the share of red, green and blue it reflects.
    albedo: Floats
    #: N x N float32, pixels: height above the surface.
    relief: Floats
    #: 0 (matt) .. 1 (mirror): how much it shines and mirrors what stands on it.
    gloss: float
    #: 0 .. 1: brightening of slopes turned away, as on velvet's pile.
    sheen: float = 0.0


#: The colour a material has when none is named.
NATURAL_COLOURS: dict[Material, Rgb] = {
    Material.PLAIN: (0.80, 0.79, 0.77),
    Material.STONE: (0.50, 0.48, 0.46),
    Material.MARBLE: (0.93, 0.92, 0.91),
    Material.VELVET: (0.36, 0.09, 0.15),
    Material.SILK: (0.86, 0.80, 0.72),
    Material.LINEN: (0.83, 0.78, 0.69),
    Material.WOOD: (0.56, 0.39, 0.25),
    Material.CONCRETE: (0.60, 0.59, 0.58),
    Material.SAND: (0.84, 0.73, 0.56),
    Material.WATER: (0.24, 0.47, 0.53),
    Material.GLASS: (0.62, 0.70, 0.73),
    Material.PAPER: (0.91, 0.89, 0.85),
    Material.LEATHER: (0.38, 0.22, 0.13),
    Material.METAL: (0.62, 0.63, 0.65),
    Material.MOSS: (0.27, 0.36, 0.15),
    Material.SNOW: (0.93, 0.95, 0.98),
}


def make_texture(
    material: Material, colour: Rgb, random: np.random.Generator, *, size: int, sculpted: bool = False
) -> Texture:
    """A `size` x `size` texture of the material in the given sRGB colour; `sculpted` adds carved relief to stone."""
    base = linear(colour)
    texture = _MAKERS[material](base, random, size)
    if sculpted:
        texture = Texture(
            albedo=texture.albedo,
            relief=texture.relief + _carving(random, size),
            gloss=texture.gloss,
            sheen=texture.sheen,
        )
    return texture


def linear(colour: Rgb) -> Floats:
    """An sRGB colour (0..1) in linear light, shape (3,); the gamma of 2.2 stands for sRGB's piecewise curve."""
    return floats(*colour) ** np.float32(2.2)


def _tinted(base: Floats, tone: Floats, *, floor: float = 0.0) -> Floats:
    """N x N x 3: the base colour brightened and darkened by a map of factors around 1."""
    return (np.maximum(tone, floor)[..., None] * base).astype(np.float32)


def _carving(random: np.random.Generator, size: int) -> Floats:
    """Broad flowing ridges, as cut by a sculptor."""
    rows = np.mgrid[0:size, 0:size][0].astype(np.float32)
    flow = fractal_noise(random, (size, size), cells=(2.0, 1.6), octaves=3, persistence=0.45)
    phase = rows * np.float32(2 * np.pi * 3.0 / size) + 3.2 * flow
    return ((1.0 - np.abs(np.sin(phase / 2.0))) * size * 0.035).astype(np.float32)


def _plain(base: Floats, random: np.random.Generator, size: int) -> Texture:
    tone = 1.0 + 0.015 * value_noise(random, (size, size), (3, 3))
    return Texture(albedo=_tinted(base, tone), relief=np.zeros((size, size), np.float32), gloss=0.25)


def _stone(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    lumps = fractal_noise(random, shape, cells=(5, 5), octaves=6, persistence=0.55)
    fine = grain(random, shape, blur=0.8)
    relief = size * 0.011 * lumps + 0.35 * fine
    tone = 1.0 + 0.28 * lumps + 0.06 * fine
    mineral = np.maximum(grain(random, shape, blur=1.2) - 2.9, 0.0)
    albedo = _tinted(base, tone, floor=0.35) + 0.05 * mineral[..., None]
    return Texture(albedo=albedo.astype(np.float32), relief=relief, gloss=0.12)


def _marble(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    clouds = fractal_noise(random, shape, cells=(3, 3), octaves=4)
    drift_x = fractal_noise(random, shape, cells=(3, 3), octaves=5, persistence=0.6)
    drift_y = fractal_noise(random, shape, cells=(3, 3), octaves=5, persistence=0.6)
    strength = np.clip(0.55 + 0.5 * value_noise(random, shape, (4, 4)), 0.05, 1.0)
    veins = np.zeros(shape, dtype=np.float32)
    for lumps, width, weight in ((2.2, 0.030, 1.0), (4.5, 0.016, 0.5), (8.0, 0.012, 0.25)):
        stretched = value_noise(random, shape, (lumps * 1.5, lumps * 0.7))
        line = warp(stretched, size * 0.06 * drift_x, size * 0.06 * drift_y)
        veins = np.maximum(
            veins, weight * np.exp(-np.abs(line) / width) + 0.35 * weight * np.exp(-np.abs(line) / (6 * width))
        )
    veins = np.clip(veins * strength, 0.0, 1.0)
    vein_colour = base * floats(0.40, 0.43, 0.48) if base.mean() > 0.12 else base * 2.5 + 0.12
    tone = _tinted(base, 1.0 + 0.05 * clouds)
    albedo = tone + 0.75 * veins[..., None] * (vein_colour - tone)
    return Texture(albedo=albedo.astype(np.float32), relief=np.zeros(shape, np.float32), gloss=0.55)


def _velvet(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    folds = value_noise(random, shape, (2.2, 1.6)) + 0.35 * value_noise(random, shape, (4.5, 3.5))
    pile = grain(random, shape, blur=0.9)
    tone = 1.0 + 0.07 * pile + 0.10 * value_noise(random, shape, (7, 7))
    relief = size * 0.045 * folds + 0.15 * pile
    return Texture(albedo=_tinted(base, tone), relief=relief.astype(np.float32), gloss=0.0, sheen=0.8)


def _silk(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    flow = fractal_noise(random, shape, cells=(1.6, 1.6), octaves=3, persistence=0.4)
    phase = (0.7 * rows + 0.5 * columns) * np.float32(2 * np.pi * 2.2 / size) + 3.0 * flow
    folds = np.sin(phase) + 0.35 * np.sin(2.3 * phase + 2.0 * flow)
    relief = size * 0.028 * folds
    return Texture(
        albedo=_tinted(base, np.ones(shape, np.float32)), relief=relief.astype(np.float32), gloss=0.4, sheen=0.35
    )


def _linen(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    threads = 96
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32) * np.float32(2 * np.pi * threads / size)
    wobble = 0.9 * value_noise(random, shape, (12, 12))
    slubs_across = value_noise(random, shape, (threads, 5))
    slubs_along = value_noise(random, shape, (5, threads))
    weave = np.sin(rows + wobble) * (1 + 0.5 * slubs_across) + np.sin(columns + wobble) * (1 + 0.5 * slubs_along)
    creases = value_noise(random, shape, (3, 2))
    tone = 1.0 + 0.055 * weave + 0.05 * slubs_across + 0.05 * slubs_along
    relief = 0.55 * weave + size * 0.012 * creases
    return Texture(albedo=_tinted(base, tone, floor=0.4), relief=relief.astype(np.float32), gloss=0.0)


def _wood(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    rows = np.mgrid[0:size, 0:size][0].astype(np.float32)
    drift = value_noise(random, shape, (4, 1.2))
    rings = np.sin(rows * np.float32(2 * np.pi * 13 / size) + 5.0 * drift + 1.5 * value_noise(random, shape, (16, 2)))
    fibres = value_noise(random, shape, (size / 5, 7)) + 0.6 * value_noise(random, shape, (size / 2.2, 14))
    tone = 1.0 + 0.10 * rings + 0.11 * fibres + 0.10 * value_noise(random, shape, (6, 1.5))
    planks = 4
    board = rows * planks / size
    seam = np.exp(-(((board - np.round(board)) * size / planks) ** 2) / np.float32(2 * 1.2**2))
    shades = random.uniform(0.86, 1.12, planks + 1).astype(np.float32)[np.floor(board).astype(np.int32)]
    albedo = _tinted(base, tone * shades * (1 - 0.75 * seam), floor=0.12)
    return Texture(albedo=albedo, relief=(0.35 * fibres - 2.5 * seam).astype(np.float32), gloss=0.18)


def _concrete(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    stains = fractal_noise(random, shape, cells=(3, 3), octaves=5, persistence=0.5)
    fine = grain(random, shape, blur=0.9)
    pores = np.exp(-((cells(random, shape, count=size // 4) / 1.6) ** 2))
    tone = 1.0 + 0.09 * stains + 0.035 * fine - 0.35 * pores
    relief = 1.6 * stains + 0.2 * fine - 1.4 * pores
    return Texture(albedo=_tinted(base, tone, floor=0.3), relief=relief.astype(np.float32), gloss=0.08)


def _sand(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    rows = np.mgrid[0:size, 0:size][0].astype(np.float32)
    flow = fractal_noise(random, shape, cells=(2, 2), octaves=3, persistence=0.4)
    ripples = np.sin(rows * np.float32(2 * np.pi * 13 / size) + 4.5 * flow)
    fine = grain(random, shape, blur=0.6)
    tone = 1.0 + 0.10 * fine + 0.05 * flow
    relief = size * 0.0042 * ripples + 0.45 * fine + size * 0.012 * flow
    return Texture(albedo=_tinted(base, tone, floor=0.4), relief=relief.astype(np.float32), gloss=0.0)


def _water(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    swell = value_noise(random, shape, (14, 5)) + 0.5 * value_noise(random, shape, (30, 11))
    caustics = np.exp(-np.abs(warp(value_noise(random, shape, (9, 9)), 14 * swell, 14 * swell)) / 0.09)
    albedo = _tinted(base, 1.0 + 0.12 * swell, floor=0.4) + 0.10 * caustics[..., None] * (base + 0.25)
    return Texture(albedo=albedo.astype(np.float32), relief=(size * 0.0032 * swell).astype(np.float32), gloss=0.8)


def _glass(base: Floats, random: np.random.Generator, size: int) -> Texture:
    tone = 1.0 + 0.05 * value_noise(random, (size, size), (2, 2))
    return Texture(albedo=_tinted(base, tone), relief=np.zeros((size, size), np.float32), gloss=0.95)


def _paper(base: Floats, random: np.random.Generator, size: int) -> Texture:
    fibres = grain(random, (size, size), blur=1.1)
    tone = 1.0 + 0.012 * fibres + 0.012 * value_noise(random, (size, size), (4, 4))
    return Texture(albedo=_tinted(base, tone), relief=(0.22 * fibres).astype(np.float32), gloss=0.0)


def _leather(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    pebbles = np.minimum(cells(random, shape, count=size * size // 90), 7.0)
    pebbles = cv2.GaussianBlur(pebbles, (0, 0), 0.9)
    tone = 1.0 - 0.05 * (pebbles - 3.0) + 0.10 * fractal_noise(random, shape, cells=(4, 4), octaves=3)
    return Texture(albedo=_tinted(base, tone, floor=0.3), relief=(-0.55 * pebbles).astype(np.float32), gloss=0.22)


def _metal(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    brushed = value_noise(random, shape, (size / 1.5, 3)) + 0.7 * value_noise(random, shape, (size / 4, 1.5))
    tone = 1.0 + 0.06 * brushed
    return Texture(albedo=_tinted(base, tone), relief=(0.12 * brushed).astype(np.float32), gloss=0.6)


def _moss(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    lumps = fractal_noise(random, shape, cells=(6, 6), octaves=5, persistence=0.62)
    blades = grain(random, shape, blur=1.1)
    tone = 1.0 + 0.30 * lumps + 0.22 * blades
    hue = value_noise(random, shape, (9, 9))[..., None] * floats(0.10, 0.03, -0.02)
    albedo = _tinted(base, tone, floor=0.15) * (1.0 + hue)
    return Texture(
        albedo=albedo.astype(np.float32), relief=(size * 0.008 * lumps + 1.1 * blades).astype(np.float32), gloss=0.0
    )


def _snow(base: Floats, random: np.random.Generator, size: int) -> Texture:
    shape = (size, size)
    drifts = fractal_noise(random, shape, cells=(3, 2.2), octaves=4, persistence=0.42)
    sparkle = np.maximum(grain(random, shape) - 3.2, 0.0)
    albedo = _tinted(base, 1.0 + 0.02 * drifts) + 0.4 * sparkle[..., None]
    relief = size * 0.014 * drifts + 0.18 * grain(random, shape, blur=0.8)
    return Texture(albedo=albedo.astype(np.float32), relief=relief.astype(np.float32), gloss=0.05)


_MAKERS: dict[Material, Callable[[Floats, np.random.Generator, int], Texture]] = {
    Material.PLAIN: _plain,
    Material.STONE: _stone,
    Material.MARBLE: _marble,
    Material.VELVET: _velvet,
    Material.SILK: _silk,
    Material.LINEN: _linen,
    Material.WOOD: _wood,
    Material.CONCRETE: _concrete,
    Material.SAND: _sand,
    Material.WATER: _water,
    Material.GLASS: _glass,
    Material.PAPER: _paper,
    Material.LEATHER: _leather,
    Material.METAL: _metal,
    Material.MOSS: _moss,
    Material.SNOW: _snow,
}
