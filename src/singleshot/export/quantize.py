"""int8 by post-training quantisation (NNCF), calibrated on the user's own images."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from singleshot.errors import ConfigError, ImageError, MissingExtraError
from singleshot.export.package import Package
from singleshot.images.preprocess import preprocess_image
from singleshot.images.read import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_IMAGES = 10
IMAGES = 300

_log = logging.getLogger(__name__)


def quantize_package(package: Package, images: Sequence[Path], max_images: int = IMAGES) -> Package:
    """Quantise the convolutions of a compiled network to int8.

    Inputs and weights of convolutions become int8. What the heads give out stays in float: box codes of 8 bits would
    move boxes by pixels, and scores would become steps. So do decoding and NMS, which are not part of the package.

    Args:
        package: not yet quantised.
        images: typical images; evenly spread ones of them are used. Labels are not needed.
        max_images: how many at most.

    An image that cannot be read is left out, with a warning in the log.

    Raises:
        ConfigError: fewer than ``MIN_IMAGES`` images can be read.
        MissingExtraError: NNCF is not installed.
    """
    try:
        Path.home()
    except RuntimeError:  # of a user without one; NNCF asks as it is imported
        os.environ["HOME"] = tempfile.gettempdir()
    try:
        import nncf
    except ImportError:
        raise MissingExtraError("nncf", "openvino", "quantisation") from None
    chosen = [images[index] for index in np.linspace(0, len(images) - 1, min(max_images, len(images))).astype(int)]
    batches = list(_inputs(chosen, package))
    if len(batches) < MIN_IMAGES:
        raise ConfigError(f"quantisation needs at least {MIN_IMAGES} images that can be read; there are {len(batches)}")
    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(sys.stderr):  # NNCF's progress is no result, and a closed pipe would end the process
        parts = (_openvino_int8 if package.info.kind == "openvino" else _onnx_int8)(package.parts, batches)
    notes: dict[str, str | float] = {"images": float(len(batches)), "nncf": str(nncf.__version__)}
    info = package.info.model_copy(update={"quantized": True, "quantization": notes})
    return Package(info, package.anchors_cxcywh, parts)


def _openvino_int8(parts: Sequence[bytes], batches: Sequence[NDArray[np.float32]]) -> tuple[bytes, ...]:
    import nncf
    import openvino as ov

    from singleshot.export.openvino_core import openvino_core, save_ir

    xml, numbers = parts
    model = openvino_core().read_model(xml, ov.Tensor(np.frombuffer(numbers, dtype=np.uint8)))
    model.reshape(list(batches[0].shape))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(batches),
        subset_size=len(batches),
        preset=nncf.QuantizationPreset.MIXED,
        fast_bias_correction=False,
    )
    quantized.reshape([-1, *batches[0].shape[1:]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        save_ir(quantized, path, half=True)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def _onnx_int8(parts: Sequence[bytes], batches: Sequence[NDArray[np.float32]]) -> tuple[bytes, ...]:
    import nncf
    import onnx

    model = onnx.load_from_string(parts[0])
    inputs = [{"images": batch} for batch in batches]
    quantized = nncf.quantize(model, nncf.Dataset(inputs), subset_size=len(inputs), fast_bias_correction=True)
    return (quantized.SerializeToString(),)


def _inputs(images: Sequence[Path], package: Package) -> Iterator[NDArray[np.float32]]:
    for path in images:
        try:
            yield preprocess_image(read_image(path), package.info.spec.preprocess)[None]
        except ImageError as error:
            _log.warning("%s; left out of the calibration", error)
