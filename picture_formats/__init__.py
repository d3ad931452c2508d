"""The three picture files that Vitrine takes, read and cleaned byte by byte, without decoding a pixel.

Each module's `clean` walks the file's own structure, keeps what shows the picture (pixels, colour, density), drops
everything else (location, camera, thumbnails, texts, unknown parts, whatever follows the picture's end), and carries
the orientation over. The pixels are never encoded anew, so nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap

from errors import BadPictureError

#: A file in memory, or one that lies on disk and is only looked at.
FileBytes = bytes | mmap


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanFile:
    """A picture file without metadata, and what its header says. The pixels have not been looked at yet."""

    content: bytes
    width: int  #: pixels as stored, before the orientation is applied
    height: int
    orientation: int  #: Exif's 1 to 8; 1 is upright (CIPA DC-008, tag 0x0112)
    plain: bool  #: 8 bits a channel, RGB, RGBA or grey: what every model takes


def damaged(what: str) -> BadPictureError:
    return BadPictureError(f"The picture is damaged: {what}.", status=422)


def truncated() -> BadPictureError:
    return BadPictureError("The picture is cut off: its end is missing.", status=422)


def animated() -> BadPictureError:
    return BadPictureError("Animated pictures are not accepted; send a still one.", status=422)
