# mypy: disable-error-code="no-any-return"
"""Scenes: a product set into surroundings that a prompt describes, its own pixels unchanged."""

import cv2
import numpy as np

from sandbox.pictures.arrays import Bytes, Floats, floats
from sandbox.pictures.cutout import cut_out_pixels
from sandbox.pictures.decode import decode
from sandbox.pictures.metadata import encode_png
from sandbox.pictures.scene.description import Scene
from sandbox.pictures.scene.lighting import light_field, reflection, rim_glow, shadow_map
from sandbox.pictures.scene.materials import Material
from sandbox.pictures.scene.placing import PlacedProduct, lay_out_empty, place_product
from sandbox.pictures.scene.prompt import read_prompt
from sandbox.pictures.scene.stage import build_stage

_GLOSS = {Material.PLAIN: 0.22, Material.MARBLE: 0.35, Material.GLASS: 0.75, Material.METAL: 0.5, Material.WATER: 0.65}
_DISPLAY_LEVELS = 4096  # steps of the linear-to-sRGB table; finer than 8-bit sRGB everywhere above black


def render_scene(prompt: str, picture: bytes | None, *, width: int, height: int, seed: int) -> bytes:
    """A picture of the scene the prompt describes, with the product of `picture` in it: PNG, RGB.

    Args:
        prompt: English; what is not understood is ignored.
        picture: Usually an RGBA cut-out; a photograph without transparency is cut out first. None = an empty scene.
        width: Pixels.
        height: Pixels.
        seed: The same seed and prompt give the same surroundings, to the byte.

    Raises:
        UnreadablePictureError: See `sandbox.pictures.decode`.
    """
    cv2.setNumThreads(1)
    scene = read_prompt(prompt)
    product = None
    if picture is not None:
        decoded = decode(picture)
        cutout = cut_out_pixels(decoded.colour) if decoded.alpha is None else np.dstack([decoded.colour, decoded.alpha])
        product = place_product(cutout, scene, width, height)
    return encode_png(compose(scene, product, width=width, height=height, seed=seed))


def compose(scene: Scene, product: PlacedProduct | None, *, width: int, height: int, seed: int) -> Bytes:
    """Render the stage and lay the product on it: H x W x 3 uint8."""
    random = np.random.default_rng(seed)
    layout = product.layout if product is not None else lay_out_empty(scene, width, height)
    light = scene.light
    stage = build_stage(scene, layout, random)
    stage *= light_field(light, layout)[..., None] * floats(*light.colour)
    stage *= _exposure(stage, light.ambient)
    if product is not None:
        alpha = np.ascontiguousarray(product.rgba[..., 3])
        if scene.shadows:
            stage *= shadow_map(alpha, light, layout, elevation=scene.elevation)[..., None]
        strength = _mirror_strength(scene)
        if strength > 0.0 and not layout.lying:
            colours, opacity = reflection(product.rgba, layout, strength=strength)
            stage += opacity[..., None] * (colours - stage)
        glow = rim_glow(alpha, light, layout)
        if glow is not None:
            stage += glow
    stage *= _vignette(width, height, scene.vignette)[..., None]
    shown = _to_display(stage, random)
    return shown if product is None else _lay_over(shown, product.rgba)


def _exposure(stage: Floats, ambient: float) -> float:
    """The gain that lets a dark material show its form, as a photographer opens the aperture for slate or velvet."""
    bright = float(np.quantile(stage[::8, ::8].mean(axis=-1), 0.9))
    wanted = 0.05 + 0.16 * ambient
    return float(np.clip((wanted / max(bright, 1e-4)) ** 0.8, 1.0, 1.4 + 2.0 * ambient))


def _mirror_strength(scene: Scene) -> float:
    if scene.reflections is False:
        return 0.0
    natural = _GLOSS.get(scene.surface, 0.0)
    return max(natural, 0.45) if scene.reflections else natural


def _vignette(width: int, height: int, strength: float) -> Floats:
    rows = (np.arange(height, dtype=np.float32)[:, None] / height - 0.5) * 2.0
    columns = (np.arange(width, dtype=np.float32)[None, :] / width - 0.5) * 2.0
    return (1.0 - strength * np.clip((rows * rows + columns * columns) / 2.0, 0.0, 1.0) ** 1.3).astype(np.float32)


def _to_display(stage: Floats, random: np.random.Generator) -> Bytes:
    """Linear light to 8-bit sRGB with a soft shoulder and a little dither against banding."""
    shoulder = 0.8  # light above this is compressed rather than clipped
    levels = np.linspace(0.0, 2.0, _DISPLAY_LEVELS, dtype=np.float32)
    bent = np.where(levels > shoulder, shoulder + 0.2 * (1.0 - np.exp((shoulder - levels) / 0.2)), levels)
    table = np.clip(bent, 0.0, 1.0) ** np.float32(1 / 2.2) * np.float32(255.0)
    index = np.clip(stage * np.float32((_DISPLAY_LEVELS - 1) / 2.0), 0, _DISPLAY_LEVELS - 1).astype(np.uint16)
    shown = np.take(table, index)
    shown += random.random(stage.shape[:2], dtype=np.float32)[..., None] * np.float32(1.2) - np.float32(0.1)
    return np.clip(shown, 0, 255).astype(np.uint8)


def _lay_over(shown: Bytes, rgba: Bytes) -> Bytes:
    """The product over the scene; where alpha is 255 its own pixels, bit by bit."""
    alpha = rgba[..., 3:].astype(np.float32) / 255.0
    mixed = shown + alpha * (rgba[..., :3].astype(np.float32) - shown)
    return mixed.round().astype(np.uint8)
