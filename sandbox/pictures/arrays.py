"""Names for the arrays that pass between the parts.

The element type is in the name, not in the type: OpenCV's stubs return arrays of "any number", so an exact dtype would
need a cast at every call.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

#: uint8: pixels of a picture, or a mask of 0 and 255.
Bytes = npt.NDArray[Any]
#: float32: maps, colours in Lab or in linear light.
Floats = npt.NDArray[Any]
#: bool: H x W.
Mask = npt.NDArray[Any]


def floats(*values: float) -> Floats:
    """A float32 vector."""
    return np.array(values, dtype=np.float32)
