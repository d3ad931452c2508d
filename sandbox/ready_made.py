"""Fixed pictures for benchmarks: made once, served without any work."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image, ImageDraw

from sandbox.work import PictureJob

_SIDE = 1024  # pixels: what the first generations of the hosted models answer with
_NOISE = 4  # grey levels: enough to make the files about as large as those of a model, some 0.7 MB


def ready_made(job: PictureJob) -> bytes:
    """A cut-out where one is asked for, else a scene."""
    return _picture(with_alpha=job.cuts_out, media_type=job.media_type)


@functools.cache
def _picture(*, with_alpha: bool, media_type: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, _NOISE, (_SIDE, _SIDE, 3), dtype=np.uint8)
    ramp = np.linspace(60, 200, _SIDE, dtype=np.uint8)[:, None, None]
    picture = Image.fromarray(noise + ramp)
    if with_alpha:
        alpha = Image.new("L", picture.size, 0)
        ImageDraw.Draw(alpha).ellipse((_SIDE // 4, _SIDE // 4, 3 * _SIDE // 4, 3 * _SIDE // 4), fill=255)
        picture.putalpha(alpha)
    file = io.BytesIO()
    picture.convert("RGB" if media_type == "image/jpeg" else picture.mode).save(file, media_type.split("/")[1])
    return file.getvalue()
