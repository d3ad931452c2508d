"""One picture job as plain values, and its execution in a pool process: a chain of steps on bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import assert_never

from PIL import Image, ImageFilter, ImageOps

from sandbox.behaviour import Work


class UnreadableSourceError(ValueError):
    """The source is no picture that can be worked on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Colourise:
    instruction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Enhance:
    """A gentle touch for an edit that asks for nothing we can do: contrast stretched a little, and sharpened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOut:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The picture so far (or none) in the place that the prompt describes."""

    prompt: str
    width: int  #: pixels
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upscale:
    factor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Made smaller, never larger, to lie within these bounds (pixels)."""

    max_width: int
    max_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PadTo:
    """Widened or heightened to this aspect ratio: transparent where the picture has alpha, else white."""

    ratio: float  #: width / height


Step = Restore | Colourise | Enhance | CutOut | Scene | Upscale | Fit | PadTo


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureJob:
    source: bytes | None  #: any picture file; None: from words alone
    steps: tuple[Step, ...]
    media_type: str = "image/png"  #: image/png, image/jpeg or image/webp

    @property
    def works(self) -> tuple[Work, ...]:
        """What is bought with it, in order; sizing is not work."""
        return tuple(name for step in self.steps if (name := _WORK_NAMES.get(type(step))))

    @property
    def cuts_out(self) -> bool:
        return any(isinstance(step, CutOut) for step in self.steps)


_WORK_NAMES: dict[type[Step], Work] = {
    Restore: "restore",
    Colourise: "colourise",
    Enhance: "enhance",
    CutOut: "cutout",
    Scene: "scene",
}


def perform(job: PictureJob, seed: int) -> bytes:
    """The finished picture file; another `seed` gives other scenes. Heavy: runs in a pool process, and only there
    OpenCV is loaded.

    Raises:
        UnreadableSourceError
    """
    from sandbox.pictures import UnreadablePictureError

    picture = job.source
    try:
        for step in job.steps:
            picture = _take(step, picture, seed)
        if picture is not None and job.media_type != "image/png":
            picture = _encoded(picture, job.media_type)
    except UnreadablePictureError as error:
        raise UnreadableSourceError(str(error)) from error
    return _needed(picture)


def _take(step: Step, picture: bytes | None, seed: int) -> bytes:
    from sandbox import pictures

    match step:
        case Scene(prompt=prompt, width=width, height=height):
            return pictures.render_scene(prompt, picture, width=width, height=height, seed=seed)
        case Restore():
            return pictures.restore(_needed(picture))
        case Colourise(instruction=instruction):
            return pictures.colourise(_needed(picture), instruction=instruction)
        case CutOut():
            return pictures.cut_out(_needed(picture))
        case Enhance():
            return _enhanced(_needed(picture))
        case Upscale(factor=factor):
            return _upscaled(_needed(picture), factor)
        case Fit(max_width=max_width, max_height=max_height):
            return _fitted(_needed(picture), max_width, max_height)
        case PadTo(ratio=ratio):
            return _padded(_needed(picture), ratio)
        case _:
            assert_never(step)


def _needed(picture: bytes | None) -> bytes:
    if picture is None:
        raise ValueError("a job without a source starts with a scene")
    return picture


def _enhanced(content: bytes) -> bytes:
    picture = _opened(content)
    alpha = picture.getchannel("A") if picture.mode == "RGBA" else None
    better = ImageOps.autocontrast(picture.convert("RGB"), cutoff=0.5, preserve_tone=True)
    better = better.filter(ImageFilter.UnsharpMask(radius=1.5, percent=40, threshold=2))
    if alpha is not None:
        better.putalpha(alpha)
    return _png(better)


def _upscaled(content: bytes, factor: int) -> bytes:
    picture = _opened(content)
    size = (picture.width * factor, picture.height * factor)
    return _png(picture.resize(size, Image.Resampling.LANCZOS))


def _fitted(content: bytes, max_width: int, max_height: int) -> bytes:
    picture = _opened(content)
    picture.thumbnail((max_width, max_height), Image.Resampling.LANCZOS)
    return _png(picture)


def _padded(content: bytes, ratio: float) -> bytes:
    picture = _opened(content)
    width = max(picture.width, round(picture.height * ratio))
    height = max(picture.height, round(picture.width / ratio))
    colour = (0, 0, 0, 0) if picture.mode == "RGBA" else (255, 255, 255)
    return _png(ImageOps.pad(picture, (width, height), color=colour))


def _opened(content: bytes) -> Image.Image:
    """Upright, RGB or RGBA.

    Raises:
        UnreadableSourceError
    """
    try:
        with Image.open(io.BytesIO(content)) as file:
            upright = ImageOps.exif_transpose(file)
            return upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableSourceError("the picture cannot be decoded") from error


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _encoded(content: bytes, media_type: str) -> bytes:
    picture = _opened(content)
    file = io.BytesIO()
    if media_type == "image/jpeg":
        flat = Image.new("RGB", picture.size, (255, 255, 255))
        flat.paste(picture, mask=picture.getchannel("A") if picture.mode == "RGBA" else None)
        flat.save(file, "JPEG", quality=92)
    else:
        picture.save(file, "WEBP", quality=92)
    return file.getvalue()
