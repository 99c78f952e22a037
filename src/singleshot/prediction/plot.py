"""The picture of one image with its boxes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from singleshot.core.files import check_output
from singleshot.core.lazy import lazy_module
from singleshot.errors import ImageError
from singleshot.images.draw import draw_detections
from singleshot.images.read import check_rgb, read_image, write_image
from singleshot.prediction.settings import check_line_width

if TYPE_CHECKING:
    import singleshot.prediction.detections as found_module
else:
    found_module = lazy_module("singleshot.prediction.detections")


def plot(
    found: found_module.Detections,
    image: found_module.ImageLike | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    labels: bool = True,
    line_width: int | None = None,
) -> NDArray[np.uint8]:
    """`Detections.plot`."""
    if out is not None:
        sources = [source for source in (found.path, image) if isinstance(source, (str, os.PathLike))]
        check_output(out, overwrite=True, sources=sources)
    picture = draw_detections(_image(found, image), found, labels=labels, line_width=check_line_width(line_width))
    if out is not None:
        write_image(out, picture)
    return picture


def _image(found: found_module.Detections, image: found_module.ImageLike | None) -> NDArray[np.uint8]:
    known = found.path if found.image is None else found.image
    source = known if image is None else image
    if source is None:
        raise ImageError("no image is known of these detections: pass it, as in detections.plot(image)")
    pixels = read_image(source) if isinstance(source, (str, os.PathLike)) else check_rgb(source)
    if pixels.shape[:2] != found.image_size_hw:
        raise ImageError(f"the image is {pixels.shape[:2]} (height, width), the detections' {found.image_size_hw}")
    return np.asarray(pixels)
