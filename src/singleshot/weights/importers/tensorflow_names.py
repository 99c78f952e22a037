"""Names of the TensorFlow Object Detection API's SSDLite MobileNetV2, folded or not, to ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from singleshot.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = "FeatureExtractor/MobilenetV2/"
BATCH_NORM_EPS = 1e-3
BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""(reduced, output) channels of the appended blocks; TensorFlow writes them into their names."""


class Converter:
    """Takes arrays by TensorFlow name, and notes what became of each.

    Args:
        arrays: the file's arrays by node name; kernels are HWIO, depthwise kernels HWC1.
        origin: the file, for messages.

    Attributes:
        state: our tensors by name, filled by ``convolution`` and ``batch_norm``.
        mapped: (our name, TensorFlow names) in the order of conversion.
        folded: our BatchNorms whose statistics the file does not hold.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], origin: str) -> None:
        self.arrays = arrays
        self.origin = origin
        self.state: dict[str, Tensor] = {}
        self.mapped: list[tuple[str, str]] = []
        self.folded: list[str] = []

    @property
    def used(self) -> set[str]:
        """TensorFlow names that something was made from."""
        return {name for _, names in self.mapped for name in names.split(", ")}

    def put(self, name: str, value: np.ndarray, *sources: str) -> None:
        """Store one parameter."""
        import torch

        self.state[name] = torch.from_numpy(np.array(value, dtype=np.float32, order="C"))
        if sources:
            self.mapped.append((name, ", ".join(sources)))

    def take(self, *names: str) -> tuple[str, np.ndarray]:
        """The first of these arrays that the file has.

        Raises:
            WeightsError: it has none of them.
        """
        for name in names:
            if name in self.arrays:
                return name, self.arrays[name]
        raise WeightsError(
            f"{self.origin}: no array '{names[0]}': not an SSDLite MobileNetV2 of TensorFlow's, or damaged"
        )

    def convolution(self, ours: str, theirs: str) -> None:
        """A convolution followed by BatchNorm: its kernel, and the BatchNorm in whatever form the file has it."""
        source, kernel = self.take(f"{theirs}/Conv2D/merged_input", f"{theirs}/depthwise_weights", f"{theirs}/weights")
        if kernel.ndim != 4:
            raise WeightsError(f"{self.origin}: '{source}' has shape {kernel.shape}, not that of a kernel")
        axes = (2, 3, 0, 1) if source.endswith("depthwise_weights") else (3, 2, 0, 1)
        kernel = kernel.transpose(axes)
        self.put(f"{ours}.conv.weight", kernel, source)
        self.batch_norm(f"{ours}.bn", f"{theirs}/BatchNorm", len(kernel))

    def batch_norm(self, ours: str, theirs: str, channels: int) -> None:
        """Four arrays where the file has them; a folded scale and shift becomes an equal BatchNorm."""
        if f"{theirs}/gamma" in self.arrays or f"{theirs}/moving_mean" in self.arrays:
            for name, tensorflow in BATCH_NORM.items():
                source, value = self.take(f"{theirs}/{tensorflow}")
                self.put(f"{ours}.{name}", value, source)
            return
        scale, shift = f"{theirs}/batchnorm/mul", f"{theirs}/batchnorm/sub"
        ones = np.ones(channels, dtype=np.float32)
        if scale in self.arrays:
            self.put(f"{ours}.weight", self.arrays[scale], scale)
        else:
            self.put(f"{ours}.weight", ones)
        self.put(f"{ours}.bias", self.take(shift)[1], shift)
        self.put(f"{ours}.running_mean", 0 * ones)
        self.put(f"{ours}.running_var", (1 - BATCH_NORM_EPS) * ones)
        self.folded.append(ours)

    def predictor(self, ours: str, theirs: str) -> None:
        """Depthwise convolution with BatchNorm, then a 1x1 convolution with bias."""
        self.convolution(f"{ours}.depthwise", f"{theirs}_depthwise")
        source, kernel = self.take(f"{theirs}/weights")
        self.put(f"{ours}.pointwise.weight", kernel.transpose(3, 2, 0, 1), source)
        source, bias = self.take(f"{theirs}/biases")
        self.put(f"{ours}.pointwise.bias", bias, source)


def convert_ssdlite_mobilenet_v2(arrays: Mapping[str, np.ndarray], origin: str) -> Converter:
    """Convert all parameters of ``ssdlite300_mobilenet_v2``.

    Args:
        arrays: the file's arrays by node name.
        origin: the file, for messages.

    Raises:
        WeightsError: an array is missing or has the wrong rank.
    """
    converter = Converter(arrays, origin)
    for ours, theirs in _convolutions():
        converter.convolution(ours, FEATURES + theirs)
    for level in range(2 + len(EXTRAS)):
        converter.predictor(f"head.boxes.{level}", f"BoxPredictor_{level}/BoxEncodingPredictor")
        converter.predictor(f"head.logits.{level}", f"BoxPredictor_{level}/ClassPredictor")
    return converter


def _convolutions() -> Iterator[tuple[str, str]]:
    """(Our prefix, TensorFlow's) of every convolution with BatchNorm before the predictors."""
    yield "backbone.stem", "Conv"
    for block in range(17):
        theirs = f"expanded_conv_{block}" if block else "expanded_conv"
        if block:
            # Blocks without a shortcut keep their expansion as a layer of its own, see backbones/mobilenet_v2.py.
            separate = block in (1, 3, 6, 10, 13, 16)
            yield f"backbone.block{block}{'_expand' if separate else '.expand'}", f"{theirs}/expand"
        yield f"backbone.block{block}.depthwise", f"{theirs}/depthwise"
        yield f"backbone.block{block}.project", f"{theirs}/project"
    yield "backbone.last", "Conv_1"
    for index, (mid, out) in enumerate(EXTRAS):
        number = index + 2
        strided = f"layer_19_2_Conv2d_{number}_3x3_s2_{out}"
        yield f"extras.{index}.reduce", f"layer_19_1_Conv2d_{number}_1x1_{mid}"
        yield f"extras.{index}.depthwise", f"{strided}_depthwise"
        yield f"extras.{index}.project", strided
