"""Picture work of the sandbox: honest classical image processing in place of hosted models."""

from sandbox.pictures.colour import colourise
from sandbox.pictures.cutout import cut_out
from sandbox.pictures.decode import UnreadablePictureError
from sandbox.pictures.restore import restore
from sandbox.pictures.scene import render_scene

__all__ = ["UnreadablePictureError", "colourise", "cut_out", "render_scene", "restore"]
