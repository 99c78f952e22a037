"""int8 by post-training quantisation (NNCF), calibrated on the user's own images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from singleshot.backends.package import Package
from singleshot.errors import ConfigError, ImageError, MissingExtraError
from singleshot.images import read_image
from singleshot.predict.preprocess import preprocess_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_IMAGES = 10
IMAGES = 300


def quantize(package: Package, images: Sequence[Path], max_images: int = IMAGES) -> Package:
    """Quantise the convolutions of a compiled network to int8.

    The last convolution of each prediction head stays in float: box codes of 8 bits would move boxes by pixels, and
    scores would become steps. So do decoding and NMS, which are not part of the package.

    Args:
        package: of kind ``openvino``, not yet quantised.
        images: typical images; evenly spread ones of them are used. Labels are not needed.
        max_images: how many at most.

    Raises:
        ConfigError: fewer than ``MIN_IMAGES`` images can be read.
        MissingExtraError: NNCF is not installed.
    """
    try:
        import nncf
        import openvino as ov
    except ImportError:
        raise MissingExtraError("nncf", "openvino", "quantisation") from None
    chosen = [images[index] for index in np.linspace(0, len(images) - 1, min(max_images, len(images))).astype(int)]
    batches = list(_inputs(chosen, package))
    if len(batches) < MIN_IMAGES:
        raise ConfigError(f"quantisation needs at least {MIN_IMAGES} images that can be read; there are {len(batches)}")
    xml, numbers = package.parts
    model = ov.Core().read_model(xml, ov.Tensor(np.frombuffer(numbers, dtype=np.uint8)))
    model.reshape([1, *batches[0].shape[1:]])
    nncf.set_log_level(40)
    ignored = nncf.IgnoredScope(names=prediction_convolutions(model))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
        fast_bias_correction=False,
        ignored_scope=ignored,
    )
    quantized.reshape([-1, *batches[0].shape[1:]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        ov.save_model(quantized, path, compress_to_fp16=True)
        parts = (path.read_bytes(), path.with_suffix(".bin").read_bytes())
    notes: dict[str, str | float] = {"images": float(len(batches)), "nncf": str(nncf.__version__)}
    info = package.info.model_copy(update={"quantized": True, "quantization": notes})
    return Package(info, package.anchors_cxcywh, parts)


def _inputs(images: Sequence[Path], package: Package) -> Iterator[NDArray[np.float32]]:
    for path in images:
        try:
            yield preprocess_image(read_image(path), package.info.spec.preprocess)[None]
        except ImageError:
            continue


def prediction_convolutions(model: Any) -> list[str]:
    """Names of the convolutions that the outputs are made of: the first ones met on the way back from the outputs."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    pending = [output.get_node() for output in model.outputs]
    while pending:
        node = pending.pop()
        name = node.get_friendly_name()
        if name in seen:
            continue
        seen.add(name)
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            found[name] = None
        else:
            pending.extend(value.get_node() for value in node.input_values())
    return list(found)
