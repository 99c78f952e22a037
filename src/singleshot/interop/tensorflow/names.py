"""Names of the TensorFlow Object Detection API's SSDs on MobileNet v1, v2 and v3, folded or not, to ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from singleshot.errors import WeightsError
from singleshot.interop.fill import Part

BATCH_NORM_EPS = 1e-3
BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
SUPPORTED = (
    "supported are the TensorFlow Object Detection API's ssd_mobilenet_v1, ssdlite_mobilenet_v1, ssd_mobilenet_v2, "
    "ssdlite_mobilenet_v2 and ssd_mobilenet_v3_large with depth multiplier 1, SAME padding and a convolutional box "
    "predictor of their own for each level (no FPN, no shared predictor, no Keras model)"
)
PREDICTOR = "BoxPredictor_0/BoxEncodingPredictor"


class NameLayout(NamedTuple):
    """What the names and shapes of a graph say about its network.

    Attributes:
        version: of MobileNet, 1, 2 or 3 (v3 large, with reduced tail).
        features: what all names before the predictors begin with.
        blocks: (reduced, output) channels of the appended blocks; TensorFlow writes them into their names.
        depthwise_blocks: whether their 3x3 is depthwise, followed by a 1x1.
        depthwise_heads: the same of the predictors.
        kernel: of predictors that are not depthwise.
    """

    version: int
    features: str
    blocks: tuple[tuple[int, int], ...]
    depthwise_blocks: bool
    depthwise_heads: bool
    kernel: int

    @property
    def name(self) -> str:
        """As TensorFlow calls it; its ssd_mobilenet_v3 has the heads of an ssdlite, too."""
        form = "ssdlite" if self.depthwise_heads else "ssd"
        return f"{form}_mobilenet_v{self.version}{'_large' if self.version == 3 else ''}"

    @property
    def base(self) -> str:
        """The layer that the names of appended blocks begin with."""
        return {1: "Conv2d_13_pointwise", 2: "layer_19", 3: "layer_17"}[self.version]


def read_layout(arrays: Mapping[str, np.ndarray], origin: str) -> NameLayout:
    """Find out which network a graph holds.

    Raises:
        WeightsError: none that we have; the message says which those are.
    """
    version = next(
        (v for v in (1, 2, 3) if any(name.startswith(f"FeatureExtractor/MobilenetV{v}/") for name in arrays)), 0
    )
    kernel = arrays.get(f"{PREDICTOR}/weights")
    if not version or kernel is None or kernel.ndim != 4:
        raise WeightsError(f"{origin}: not an SSD that is known; {SUPPORTED}")
    if any(name.startswith("FeatureExtractor/") and name.endswith("/paddings") for name in arrays):
        raise WeightsError(f"{origin}: it pads explicitly (use_explicit_padding); {SUPPORTED}")
    features = f"FeatureExtractor/MobilenetV{version}/"
    blocks = _blocks(arrays, features)
    if not blocks or any(number != index for index, number in enumerate(blocks, 2)):
        raise WeightsError(f"{origin}: appended blocks {sorted(blocks)}, expected 2, 3, ...; {SUPPORTED}")
    return NameLayout(
        version,
        features,
        tuple((mid, out) for mid, out, _ in blocks.values()),
        any(depthwise for *_, depthwise in blocks.values()),
        f"{PREDICTOR}_depthwise/depthwise_weights" in arrays,
        kernel.shape[0],
    )


def _blocks(arrays: Mapping[str, np.ndarray], features: str) -> dict[int, tuple[int, int, bool]]:
    """(Reduced channels, output channels, whether depthwise) of the appended blocks by number, in order."""
    reduced: dict[int, int] = {}
    output: dict[int, tuple[int, bool]] = {}
    for name in arrays:
        if match := re.match(rf"{features}\w+_1_Conv2d_(\d+)_1x1_(\d+)/", name):
            reduced[int(match[1])] = int(match[2])
        elif match := re.match(rf"{features}\w+_2_Conv2d_(\d+)_3x3_s2_(\d+)(_depthwise)?/", name):
            number, depthwise = int(match[1]), output.get(int(match[1]), (0, False))[1]
            output[number] = (int(match[2]), depthwise or match[3] is not None)
    return {number: (reduced[number], *output[number]) for number in sorted(output) if number in reduced}


class Converter:
    """Takes arrays by TensorFlow name, and notes what became of each.

    Args:
        arrays: the file's arrays by node name; kernels are HWIO, depthwise kernels HWC1.
        origin: the file, for messages.

    Attributes:
        parts: by our parameter name, in the order of conversion.
        folded: our BatchNorms whose statistics the file does not hold.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], origin: str) -> None:
        self.arrays = arrays
        self.origin = origin
        self.parts: dict[str, Part] = {}
        self.folded: list[str] = []

    @property
    def used(self) -> set[str]:
        """TensorFlow names that something was made from."""
        return {part.source for part in self.parts.values()}

    def take(self, *names: str) -> tuple[str, np.ndarray]:
        """The first of these arrays that the file has.

        Raises:
            WeightsError: it has none of them.
        """
        for name in names:
            if name in self.arrays:
                return name, self.arrays[name]
        raise WeightsError(f"{self.origin}: no array '{names[0]}': damaged, or another network; {SUPPORTED}")

    def convolution(self, ours: str, theirs: str) -> None:
        """A convolution followed by BatchNorm: its kernel, and the BatchNorm in whatever form the file has it."""
        source, kernel = self.take(f"{theirs}/Conv2D/merged_input", f"{theirs}/depthwise_weights", f"{theirs}/weights")
        if kernel.ndim != 4:
            raise WeightsError(f"{self.origin}: '{source}' has shape {kernel.shape}, not that of a kernel")
        axes = (2, 3, 0, 1) if source.endswith("depthwise_weights") else (3, 2, 0, 1)
        kernel = kernel.transpose(axes)
        self.parts[f"{ours}.conv.weight"] = Part(kernel, source)
        self.batch_norm(f"{ours}.bn", f"{theirs}/BatchNorm", len(kernel))

    def batch_norm(self, ours: str, theirs: str, channels: int) -> None:
        """Four arrays where the file has them; a folded scale and shift becomes an equal BatchNorm."""
        if f"{theirs}/gamma" in self.arrays or f"{theirs}/moving_mean" in self.arrays:
            for name, tensorflow in BATCH_NORM.items():
                source, value = self.take(f"{theirs}/{tensorflow}")
                self.parts[f"{ours}.{name}"] = Part(value, source)
            return
        scale, shift = f"{theirs}/batchnorm/mul", f"{theirs}/batchnorm/sub"
        ones = np.ones(channels, dtype=np.float32)
        if scale in self.arrays:
            self.parts[f"{ours}.weight"] = Part(self.arrays[scale], scale)
        else:
            self.parts[f"{ours}.weight"] = Part(ones)
        self.parts[f"{ours}.bias"] = Part(self.take(shift)[1], shift)
        self.parts[f"{ours}.running_mean"] = Part(0 * ones)
        self.parts[f"{ours}.running_var"] = Part((1 - BATCH_NORM_EPS) * ones)
        self.folded.append(ours)

    def squeeze_excite(self, ours: str, theirs: str) -> None:
        """A block's gate. Its last factor is .16667, not a sixth: the projection behind it takes up the difference."""
        gate = f"{theirs}/squeeze_excite"
        for layer, name in (("fc1", "Conv"), ("fc2", "Conv_1")):
            source, kernel = self.take(f"{gate}/{name}/weights")
            self.parts[f"{ours}.squeeze.{layer}.weight"] = Part(kernel.transpose(3, 2, 0, 1), source)
            source, bias = self.take(f"{gate}/{name}/biases")
            self.parts[f"{ours}.squeeze.{layer}.bias"] = Part(bias, source)
        projection = self.parts[f"{ours}.project.conv.weight"]
        factor = 6 * np.asarray(self.arrays.get(f"{gate}/Conv_1/mul/y", 1 / 6), dtype=np.float32)
        self.parts[f"{ours}.project.conv.weight"] = projection._replace(value=np.asarray(projection.value) * factor)

    def predictor(self, ours: str, theirs: str, depthwise: bool) -> None:
        """A convolution with bias; behind a depthwise one with BatchNorm in SSDLite."""
        if depthwise:
            self.convolution(f"{ours}.depthwise", f"{theirs}_depthwise")
        last = f"{ours}.pointwise" if depthwise else ours
        source, kernel = self.take(f"{theirs}/weights")
        self.parts[f"{last}.weight"] = Part(kernel.transpose(3, 2, 0, 1), source)
        source, bias = self.take(f"{theirs}/biases")
        self.parts[f"{last}.bias"] = Part(bias, source)


def convert_layers(arrays: Mapping[str, np.ndarray], layout: NameLayout, origin: str) -> Converter:
    """Convert all parameters.

    Args:
        arrays: the file's arrays by node name.
        layout: of the network.
        origin: the file, for messages.

    Raises:
        WeightsError: an array is missing or has the wrong rank, or the predictors have layers that are not known.
    """
    converter = Converter(arrays, origin)
    for ours, theirs in (*_backbone(arrays, layout), *_appended(layout)):
        converter.convolution(ours, theirs)
        if ours.endswith(".project") and f"{theirs.removesuffix('project')}squeeze_excite/Conv/weights" in arrays:
            converter.squeeze_excite(ours.removesuffix(".project"), theirs.removesuffix("/project"))
    for level in range(2 + len(layout.blocks)):
        theirs = f"BoxPredictor_{level}/"
        converter.predictor(f"head.boxes.{level}", f"{theirs}BoxEncodingPredictor", layout.depthwise_heads)
        converter.predictor(f"head.logits.{level}", f"{theirs}ClassPredictor", layout.depthwise_heads)
    kernels = [name for name, value in arrays.items() if name.startswith("BoxPredictor_") and value.ndim == 4]
    if unknown := sorted(set(kernels) - converter.used):
        raise WeightsError(f"{origin}: its predictors have more layers ('{unknown[0]}'); {SUPPORTED}")
    return converter


def _backbone(arrays: Mapping[str, np.ndarray], layout: NameLayout) -> Iterator[tuple[str, str]]:
    """(Our prefix, TensorFlow's) of the backbone's convolutions."""
    layers = {1: _mobilenet_v1, 2: _mobilenet_v2, 3: _mobilenet_v3}[layout.version]()
    # Later exports of v1 repeat the scope.
    inner = f"{layout.features}MobilenetV{layout.version}/"
    scope = inner if any(name.startswith(inner) for name in arrays) else layout.features
    for ours, theirs in layers:
        yield f"backbone.{ours}", scope + theirs


def _mobilenet_v1() -> Iterator[tuple[str, str]]:
    yield "conv_1", "Conv2d_0"
    for number in range(1, 14):
        yield f"conv_{number + 1}_dw", f"Conv2d_{number}_depthwise"
        yield f"conv_{number + 1}", f"Conv2d_{number}_pointwise"


def _mobilenet_v2() -> Iterator[tuple[str, str]]:
    yield "stem", "Conv"
    for block in range(17):
        theirs = f"expanded_conv_{block}" if block else "expanded_conv"
        if block:
            # Blocks without a shortcut keep their expansion as a layer of its own, see backbones/mobilenet_v2.py.
            separate = block in (1, 3, 6, 10, 13, 16)
            yield f"block{block}{'_expand' if separate else '.expand'}", f"{theirs}/expand"
        yield f"block{block}.depthwise", f"{theirs}/depthwise"
        yield f"block{block}.project", f"{theirs}/project"
    yield "last", "Conv_1"


def _mobilenet_v3() -> Iterator[tuple[str, str]]:
    yield "stem", "Conv"
    for block in range(15):
        theirs = f"expanded_conv_{block}" if block else "expanded_conv"
        if block:
            # As in v2: blocks without a shortcut, see backbones/mobilenet_v3.py.
            separate = block in (1, 3, 6, 10, 12)
            yield f"block{block + 1}{'_expand' if separate else '.expand'}", f"{theirs}/expand"
        yield f"block{block + 1}.depthwise", f"{theirs}/depthwise"
        yield f"block{block + 1}.project", f"{theirs}/project"
    yield "last", "Conv_1"


def _appended(layout: NameLayout) -> Iterator[tuple[str, str]]:
    """(Our prefix, TensorFlow's) of the appended blocks' convolutions."""
    for index, (mid, out) in enumerate(layout.blocks):
        at, number = f"extras.{index}", index + 2
        strided = f"{layout.features}{layout.base}_2_Conv2d_{number}_3x3_s2_{out}"
        yield f"{at}.reduce", f"{layout.features}{layout.base}_1_Conv2d_{number}_1x1_{mid}"
        if layout.depthwise_blocks:
            yield f"{at}.depthwise", f"{strided}_depthwise"
        yield f"{at}.{'project' if layout.depthwise_blocks else 'conv'}", strided
