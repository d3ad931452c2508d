"""Fixed pictures for benchmarks: made once, served without any work."""

from __future__ import annotations

import functools
import io
import random

from PIL import Image, ImageDraw

from sandbox.work import PictureJob

_SIDE = 1024  # pixels: what the first generations of the hosted models answer with
#: Every byte as one of two shades: noise enough to make the files about as large as those of a model.
_SHADES = bytes(120 + value % 2 for value in range(256))


def ready_made(job: PictureJob) -> bytes:
    """A cut-out where one is asked for, else a scene."""
    return _picture(with_alpha=job.cuts_out, media_type=job.media_type)


@functools.cache
def _picture(*, with_alpha: bool, media_type: str) -> bytes:
    noise = random.Random(0).randbytes(_SIDE * _SIDE * 3)  # noqa: S311  the same in every process
    picture = Image.frombytes("RGB", (_SIDE, _SIDE), noise.translate(_SHADES))
    if with_alpha:
        alpha = Image.new("L", picture.size, 0)
        ImageDraw.Draw(alpha).ellipse((_SIDE // 4, _SIDE // 4, 3 * _SIDE // 4, 3 * _SIDE // 4), fill=255)
        picture.putalpha(alpha)
    file = io.BytesIO()
    picture.convert("RGB" if media_type == "image/jpeg" else picture.mode).save(
        file, media_type.split("/")[1], compress_level=1
    )
    return file.getvalue()
