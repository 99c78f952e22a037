"""Show a picture: in a notebook, or in the viewer of the machine."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from singleshot.errors import ImageError


def png(picture_rgb: NDArray[np.uint8]) -> bytes:
    """A picture ``[H, W, 3]`` uint8 as the bytes of a PNG file."""
    import cv2

    _, data = cv2.imencode(".png", picture_rgb[..., ::-1])
    return bytes(data)


def show_picture(picture_rgb: NDArray[np.uint8]) -> None:
    """Show a picture ``[H, W, 3]`` uint8 below the cell of a notebook, else in a viewer.

    Raises:
        ImageError: there is no screen or no viewer.
        ImportError: Pillow, which knows the viewers, is not installed.
    """
    if _in_notebook():
        notebook = import_module("IPython.display")
        notebook.display(notebook.Image(data=png(picture_rgb)))
        return
    try:
        from PIL import Image as Pillow
        from PIL import ImageShow
    except ImportError:
        raise ImportError("show needs the package 'pillow': pip install pillow") from None
    no_screen = sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
    if no_screen or not ImageShow.show(Pillow.fromarray(picture_rgb)):
        raise ImageError("there is no screen or viewer here: write the picture by `plot(out='found.png')`")


def _in_notebook() -> bool:
    """Whether a kernel with a front end that shows pictures runs this."""
    interactive: Any = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive else None
    return shell is not None and hasattr(shell, "kernel")
