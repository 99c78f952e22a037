"""The Object Detection API's SSDs on MobileNet v1, v2, v3: graphs made by their names, computed without our network."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from wire_writer import graphdef

import singleshot
from singleshot.core.class_names import COCO_IDS, COCO_NAMES
from singleshot.errors import WeightsError
from singleshot.interop.read import read_foreign
from singleshot.models.build import assemble_network, build_anchors
from singleshot.models.config import ModelSpec

BLOCKS = ((256, 512), (128, 256), (128, 256), (64, 128))
V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
V3 = (
    # (kernel, expanded, out, squeezed, activation, stride): arXiv 1905.02244, table 1, half the channels at the end
    (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 24, "relu", 2),
    (5, 120, 40, 32, "relu", 1), (5, 120, 40, 32, "relu", 1), (3, 240, 80, 0, "hard_swish", 2),
    (3, 200, 80, 0, "hard_swish", 1), (3, 184, 80, 0, "hard_swish", 1), (3, 184, 80, 0, "hard_swish", 1),
    (3, 480, 112, 120, "hard_swish", 1), (3, 672, 112, 168, "hard_swish", 1), (5, 672, 80, 168, "hard_swish", 2),
    (5, 480, 80, 120, "hard_swish", 1), (5, 480, 80, 120, "hard_swish", 1),
)  # fmt: skip
ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: x.clamp(min=0),
    "relu6": lambda x: x.clamp(0, 6),
    "hard_swish": lambda x: x * (x + 3).clamp(0, 6) / 6,
}
GATE = 0.16667
"""What slim's MobileNet v3 writes for a sixth in its gates."""
BASES = {1: "Conv2d_13_pointwise", 2: "layer_19", 3: "layer_17"}
BOXES = (3, 6, 6, 6, 6, 6)
STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
TOLERANCE = 5e-5
"""Relative: float32 in two orders, through 20 to 50 layers. One zero on the wrong side makes it 0.1 and more."""
Arrays = dict[str, np.ndarray]


class Form(NamedTuple):
    """One of the API's SSDs.

    Attributes:
        version: of MobileNet: 1, 2, or 3 (large).
        lite_blocks, lite_heads: depthwise convolutions there.
        kernel: of plain predictors.
        columns: of the logits.
        size: side of the input.
        repeated: v1's scope comes twice, as in later exports.
    """

    version: int
    lite_blocks: bool
    lite_heads: bool
    kernel: int = 1
    columns: int = 4
    size: int = 160
    repeated: bool = True


FORMS = {
    "ssd_mobilenet_v1": Form(1, False, False),
    "ssd_mobilenet_v1, old": Form(1, False, False, size=128, repeated=False),
    "ssdlite_mobilenet_v1": Form(1, True, True, columns=91),
    "ssd_mobilenet_v2": Form(2, False, False, kernel=3, size=96),
    # As the sample configuration has it: depthwise blocks, plain predictors.
    "ssd_mobilenet_v2, mixed": Form(2, True, False, kernel=3, columns=2),
    "ssdlite_mobilenet_v2": Form(2, True, True),
    "ssd_mobilenet_v3_large": Form(3, True, True, size=96),
}


class Graph:
    """A network in TensorFlow's own terms: every layer makes its arrays when it is first run, by name and shape.

    Convolutions pad as TensorFlow's SAME, written out: the output has ceil(size / stride) cells, and an odd zero goes
    to the bottom and right.
    """

    def __init__(self, form: Form) -> None:
        self.form = form
        self.arrays: Arrays = {}

    def array(self, name: str, shape: tuple[int, ...]) -> Tensor:
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        values = generator.standard_normal(shape)
        if name.endswith("weights"):
            inputs = shape[0] * shape[1] * (1 if name.endswith("depthwise_weights") else shape[2])
            values *= np.sqrt(2 / inputs)
        elif name.endswith(("gamma", "moving_variance")):
            values = 1 + 0.3 * np.tanh(values)
        else:
            values *= 0.2
        return torch.from_numpy(self.arrays.setdefault(name, values.astype(np.float32)))

    def convolve(self, x: Tensor, kernel: Tensor, stride: int, groups: int = 1) -> Tensor:
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel.shape[2] - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), kernel, stride=stride, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        gamma, beta, mean, variance = (
            self.array(f"{name}/BatchNorm/{kind}", (x.shape[1],))[:, None, None] for kind in STATISTICS
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * gamma + beta

    def conv(
        self, x: Tensor, name: str, out: int, kernel: int = 1, stride: int = 1, activation: str = "relu6"
    ) -> Tensor:
        weights = self.array(f"{name}/weights", (kernel, kernel, x.shape[1], out)).permute(3, 2, 0, 1)
        y = self.norm(self.convolve(x, weights, stride), name)
        return ACTIVATIONS[activation](y)

    def depthwise(self, x: Tensor, name: str, stride: int = 1, kernel: int = 3, activation: str = "relu6") -> Tensor:
        weights = self.array(f"{name}/depthwise_weights", (kernel, kernel, x.shape[1], 1)).permute(2, 3, 0, 1)
        return ACTIVATIONS[activation](self.norm(self.convolve(x, weights, stride, x.shape[1]), name))

    def gate(self, x: Tensor, name: str, squeezed: int) -> Tensor:
        """Squeeze and excite."""
        y = x.mean(dim=(2, 3), keepdim=True)
        for layer, out in (("Conv", squeezed), ("Conv_1", x.shape[1])):
            weights = self.array(f"{name}/{layer}/weights", (1, 1, y.shape[1], out)).permute(3, 2, 0, 1)
            y = functional.conv2d(y, weights) + self.array(f"{name}/{layer}/biases", (out,))[:, None, None]
            y = y.clamp(min=0) if layer == "Conv" else (y + 3).clamp(0, 6) * GATE
        self.arrays[f"{name}/Conv_1/mul/y"] = np.array(GATE, np.float32)
        return x * y

    def predict(self, x: Tensor, name: str, out: int) -> Tensor:
        """Rows ``[B, anchors, columns]`` come from NHWC, flattened."""
        if self.form.lite_heads:
            x = self.depthwise(x, f"{name}_depthwise")
        kernel = 1 if self.form.lite_heads else self.form.kernel
        weights = self.array(f"{name}/weights", (kernel, kernel, x.shape[1], out)).permute(3, 2, 0, 1)
        y = self.convolve(x, weights, 1) + self.array(f"{name}/biases", (out,))[:, None, None]
        return y.permute(0, 2, 3, 1)

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Box codes ``[B, A, 4]`` and logits ``[B, A, columns]``."""
        version = self.form.version
        features = f"FeatureExtractor/MobilenetV{version}/"
        scope = features + ("MobilenetV1/" if version == 1 and self.form.repeated else "")
        maps = list({1: self.v1, 2: self.v2, 3: self.v3}[version](x, scope))
        base = features + BASES[version]
        for number, (mid, out) in enumerate(BLOCKS, 2):
            y = self.conv(maps[-1], f"{base}_1_Conv2d_{number}_1x1_{mid}", mid)
            strided = f"{base}_2_Conv2d_{number}_3x3_s2_{out}"
            if self.form.lite_blocks:
                y = self.conv(self.depthwise(y, f"{strided}_depthwise", 2), strided, out)
            else:
                y = self.conv(y, strided, out, 3, 2)
            maps.append(y)
        codes, logits = [], []
        for level, (y, boxes) in enumerate(zip(maps, BOXES, strict=True)):
            name = f"BoxPredictor_{level}"
            codes.append(self.predict(y, f"{name}/BoxEncodingPredictor", boxes * 4).reshape(len(x), -1, 4))
            rows = self.predict(y, f"{name}/ClassPredictor", boxes * self.form.columns)
            logits.append(rows.reshape(len(x), -1, self.form.columns))
        return torch.cat(codes, 1), torch.cat(logits, 1)

    def v1(self, x: Tensor, scope: str) -> Iterator[Tensor]:
        x = self.conv(x, f"{scope}Conv2d_0", 32, 3, 2)
        for number, (width, stride) in enumerate(V1, 1):
            x = self.depthwise(x, f"{scope}Conv2d_{number}_depthwise", stride)
            x = self.conv(x, f"{scope}Conv2d_{number}_pointwise", width)
            if number in (11, 13):
                yield x

    def v2(self, x: Tensor, scope: str) -> Iterator[Tensor]:
        x = self.conv(x, f"{scope}Conv", 32, 3, 2)
        index = 0
        for expansion, out, count, first in V2:
            for number in range(count):
                name = f"{scope}expanded_conv{f'_{index}' if index else ''}"
                y = self.conv(x, f"{name}/expand", x.shape[1] * expansion) if expansion > 1 else x
                if index == 13:
                    yield y
                y = self.depthwise(y, f"{name}/depthwise", first if number == 0 else 1)
                y = self.conv(y, f"{name}/project", out, activation="none")
                x = x + y if number else y
                index += 1
        yield self.conv(x, f"{scope}Conv_1", 1280)

    def v3(self, x: Tensor, scope: str) -> Iterator[Tensor]:
        x = self.conv(x, f"{scope}Conv", 16, 3, 2, "hard_swish")
        for index, (kernel, expanded, out, squeezed, activation, stride) in enumerate(V3):
            name = f"{scope}expanded_conv{f'_{index}' if index else ''}"
            y = self.conv(x, f"{name}/expand", expanded, activation=activation) if index else x
            if index == 12:
                yield y
            y = self.depthwise(y, f"{name}/depthwise", stride, kernel, activation)
            y = self.gate(y, f"{name}/squeeze_excite", squeezed) if squeezed else y
            y = self.conv(y, f"{name}/project", out, activation="none")
            x = x + y if stride == 1 and x.shape[1] == out else y
        yield self.conv(x, f"{scope}Conv_1", 480, activation="hard_swish")


def pixels(size: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (1, 3, size, size)).astype(np.float32))


def made(form: Form) -> tuple[Arrays, Tensor, Tensor]:
    """The graph's arrays with the constant of its resize, and what it computes."""
    graph = Graph(form)
    with torch.no_grad():
        codes, logits = graph.run(pixels(form.size))
    size = np.array([form.size, form.size], np.int32)
    return {**graph.arrays, "Preprocessor/map/while/ResizeImage/stack": size}, codes, logits


def write_pb(folder: Path, arrays: Arrays) -> Path:
    path = folder / "frozen_inference_graph.pb"
    path.write_bytes(graphdef(arrays))
    return path


def write_web(folder: Path, arrays: Arrays) -> Path:
    """A TensorFlow.js model whose BatchNorms are folded as its converter does, but for the predictors."""
    folded: Arrays = {}
    for name, value in arrays.items():
        layer, _, kind = name.rpartition("/")
        norm = [arrays.get(f"{layer}/BatchNorm/{one}") for one in STATISTICS]
        if not name.startswith("FeatureExtractor/"):
            folded[name] = value
        elif kind in ("weights", "depthwise_weights"):
            gamma, beta, mean, variance = (one for one in norm if one is not None)
            factor = (gamma / np.sqrt(variance + 1e-3)).astype(np.float32)
            folded[f"{layer}/BatchNorm/batchnorm/sub"] = beta - mean * factor
            if kind == "weights":
                folded[f"{layer}/Conv2D/merged_input"] = value * factor
            else:
                folded |= {name: value, f"{layer}/BatchNorm/batchnorm/mul": factor}
    types = {"f": "float32", "i": "int32"}
    weights = [{"name": k, "shape": list(v.shape), "dtype": types[v.dtype.kind]} for k, v in folded.items()]
    (folder / "shard").write_bytes(b"".join(value.tobytes() for value in folded.values()))
    path = folder / "model.json"
    manifest = [{"paths": ["shard"], "weights": weights}]
    path.write_text(json.dumps({"modelTopology": {"node": []}, "weightsManifest": manifest}))
    return path


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_heads_anchors_and_round_trip(form: Form, tmp_path: Path) -> None:
    arrays, codes, logits = made(form)
    _, _, report = read_foreign(write_pb(tmp_path, arrays))
    assert (report.left_over, report.missing) == ((), ())
    assert {theirs for _, theirs in report.mapped} == {
        name for name, value in arrays.items() if value.dtype.kind == "f" and value.ndim
    }

    detector = singleshot.import_weights(tmp_path, out=tmp_path / "ours.safetensors")
    spec = detector.spec
    assert spec.preprocess.size_hw == (form.size, form.size)
    assert (spec.preprocess.scale, spec.preprocess.mean, spec.preprocess.resize) == (
        2 / 255,
        (1.0,) * 3,
        "linear_legacy",
    )
    assert (spec.coder.order, spec.postprocess.score_function) == ("yxhw", "sigmoid")
    assert spec.network.head.logits == form.columns
    is_coco = form.columns == 91
    assert spec.class_names == (COCO_NAMES if is_coco else tuple(f"class_{k}" for k in range(1, form.columns)))
    assert spec.postprocess.class_columns == (COCO_IDS if is_coco else None)
    with torch.no_grad():
        output = detector.network(pixels(form.size))
    for ours, theirs in ((output.box_codes, codes), (output.class_logits, logits)):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < TOLERANCE
    assert_anchors(detector, form)

    with torch.no_grad():
        again = singleshot.load(tmp_path / "ours.safetensors").network(pixels(form.size))
    assert torch.equal(again.box_codes, output.box_codes)
    assert torch.equal(again.class_logits, output.class_logits)


def assert_anchors(detector: singleshot.Detector, form: Form) -> None:
    """First and last boxes by the API's rule: three reduced ones, and the last level's with sqrt(.95 * 1)."""
    anchors = build_anchors(detector.spec, detector.network) / form.size
    cells = -(-form.size // 16)
    half = np.sqrt(0.5)
    first = [[0.1, 0.1], [0.2 / half, 0.2 * half], [0.2 * half, 0.2 / half]]
    np.testing.assert_allclose(anchors[:3, 2:], first, atol=1e-6)
    np.testing.assert_allclose(anchors[:3, :2], 0.5 / cells, atol=1e-6)
    np.testing.assert_allclose(anchors[-1, 2:], np.sqrt(0.95), atol=1e-6)
    third = np.sqrt(0.3333)
    np.testing.assert_allclose(anchors[-2, 2:], [0.95 * third, 0.95 / third], atol=1e-6)


def boxes_yxhw(spec: ModelSpec) -> np.ndarray:
    """Default boxes as TFLite's postprocessing has them: centre and size, y before x, of the unit square."""
    with torch.device("meta"):
        network = assemble_network(spec.network)
    return (build_anchors(spec, network) / spec.preprocess.size_hw[0]).numpy()[:, [1, 0, 3, 2]]


def test_a_graph_for_tflite_tells_its_size_and_its_boxes(arrays: Arrays, tmp_path: Path) -> None:
    """No resize in it: a placeholder of a stated shape, and default boxes as (y, x, h, w) of centre and size."""
    size = FORMS["ssd_mobilenet_v1"].size
    weights = {name: value for name, value in arrays.items() if value.dtype.kind == "f"}
    expected, _, _ = read_foreign(write_pb(tmp_path, {**weights, "Preprocessor/ResizeImage": np.full(2, size)}))
    boxes = boxes_yxhw(expected)
    path, inputs = tmp_path / "x.pb", {"normalized_input_image_tensor": (1, size, size, 3)}
    path.write_bytes(graphdef({**weights, "anchors": boxes}, inputs))
    spec, _, report = read_foreign(path)
    assert (spec, report.left_over) == (expected, ())
    assert "default boxes equal those that it stores" in report.notes[0]
    for changed, given in ((boxes[:, [0, 1, 3, 2]], inputs), (boxes, {})):
        path.write_bytes(graphdef({**weights, "anchors": changed}, given))
        with pytest.raises(WeightsError, match="default boxes that differ from ours"):
            read_foreign(path)


@pytest.mark.parametrize("name", ["ssd_mobilenet_v1", "ssd_mobilenet_v2, mixed"])
def test_folded_web_model(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    arrays, codes, logits = made(form)
    _, _, report = read_foreign(write_web(tmp_path, arrays))
    assert (report.source, report.left_over) == ("tfjs", ())
    assert any("came folded" in note for note in report.notes)
    detector = singleshot.import_weights(tmp_path)
    with torch.no_grad():
        output = detector.network(pixels(form.size))
    for ours, theirs in ((output.box_codes, codes), (output.class_logits, logits)):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < TOLERANCE


# ---- settings beside the graph ----

PIPELINE = """
model {{
  ssd {{
    num_classes: 3
    image_resizer {{ fixed_shape_resizer {{ height: 160 width: {width} }} }}
    box_coder {{ faster_rcnn_box_coder {{ y_scale: 10.0 x_scale: 10.0 height_scale: 5.0 width_scale: {scale} }} }}
    anchor_generator {{ ssd_anchor_generator {{
      num_layers: 6 min_scale: 0.15000000596 max_scale: 0.9
      aspect_ratios: 1.0 aspect_ratios: 2.0 aspect_ratios: 0.5 aspect_ratios: 3.0 aspect_ratios: 0.333299994469 {more}
    }} }}
    post_processing {{
      batch_non_max_suppression {{
        score_threshold: 0.3 iou_threshold: 0.5 max_detections_per_class: 20 max_total_detections: 50 {nms}
      }}
      score_converter: {converter} {post}
    }}
    {own}
  }}
}}
"""
GOOD = {"width": "160", "scale": "5.0", "more": "", "converter": "SOFTMAX", "nms": "", "post": "", "own": ""}


@pytest.fixture(scope="module")
def arrays() -> Arrays:
    return made(FORMS["ssd_mobilenet_v1"])[0]


def test_pipeline_decides(arrays: Arrays, tmp_path: Path) -> None:
    (tmp_path / "pipeline.config").write_text(PIPELINE.format(**GOOD))
    spec, _, report = read_foreign(write_pb(tmp_path, arrays))
    post = spec.postprocess
    assert (post.score_function, post.score_threshold, post.nms_iou) == ("softmax", 0.3, 0.5)
    assert (post.max_per_class, post.max_detections, post.pre_nms_top_k) == (20, 50, None)
    assert spec.anchors.levels[0].shapes_wh[1] == pytest.approx((0.15 * 2**0.5, 0.15 / 2**0.5))
    assert spec.anchors.levels[5].shapes_wh[0] == pytest.approx((0.9, 0.9))
    assert "pipeline.config" in report.notes[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": "320"}, "160 x 320: supported is a fixed_shape_resizer to a square"),
        ({"scale": "1.0"}, "box coder"),
        ({"more": "interpolated_scale_aspect_ratio: 0.0"}, "not supported .interpolated_scale_aspect_ratio"),
        ({"more": "reduce_boxes_in_lowest_layer: false"}, "boxes per cell"),
        ({"converter": "IDENTITY"}, "IDENTITY: supported are SIGMOID and SOFTMAX"),
        ({"own": "add_background_class: false"}, "no column for background"),
        ({"nms": "use_class_agnostic_nms: true"}, "soft or across classes"),
        ({"nms": "soft_nms_sigma: 0.5"}, "soft or across classes"),
        ({"post": "logit_scale: 2.0"}, "divides logits by 2"),
    ],
)
def test_settings_that_are_refused(arrays: Arrays, change: dict[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "pipeline.config").write_text(PIPELINE.format(**{**GOOD, **change}))
    with pytest.raises(WeightsError, match=message):
        read_foreign(write_pb(tmp_path, arrays))


# ---- other graphs ----


def wider(arrays: Arrays) -> None:
    arrays["FeatureExtractor/MobilenetV1/MobilenetV1/Conv2d_0/weights"] = np.zeros((3, 3, 3, 24), np.float32)


def padded(arrays: Arrays) -> None:
    arrays["FeatureExtractor/MobilenetV1/MobilenetV1/Pad/paddings"] = np.zeros((4, 2), np.int32)


def deeper_predictor(arrays: Arrays) -> None:
    arrays["BoxPredictor_0/Conv2d_0_1x1_256/weights"] = np.zeros((1, 1, 512, 256), np.float32)


def shared_predictor(arrays: Arrays) -> None:
    for name in [name for name in arrays if name.startswith("BoxPredictor")]:
        arrays[f"WeightShared{name}"] = arrays.pop(name)


def missing_block(arrays: Arrays) -> None:
    for name in [name for name in arrays if "_Conv2d_3_" in name]:
        del arrays[name]


def other_anchors(arrays: Arrays) -> None:
    arrays["Postprocessor/ExpandDims"] = np.zeros((1, 462, 4), np.float32)


def oblong(arrays: Arrays) -> None:
    arrays["Preprocessor/map/while/ResizeImage/stack"] = np.array([160, 320], np.int32)


def missing_array(arrays: Arrays) -> None:
    del arrays["BoxPredictor_3/ClassPredictor/biases"]


def not_finite(arrays: Arrays) -> None:
    arrays["BoxPredictor_3/ClassPredictor/biases"] = np.full(24, np.nan, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wider, r"\(24, 3, 3, 3\) in shape.*depth multiplier 1"),
        (padded, "use_explicit_padding"),
        (deeper_predictor, "Conv2d_0_1x1_256"),
        (shared_predictor, "no FPN, no shared predictor"),
        (missing_block, r"appended blocks \[2, 4, 5\]"),
        (other_anchors, r"default boxes that differ from ours: put its pipeline\.config beside it"),
        (oblong, "160 x 320"),
        (missing_array, "no array 'BoxPredictor_3/ClassPredictor/biases'"),
        (not_finite, r"head\.logits\.3\.bias.*not finite"),
    ],
)
def test_graphs_that_are_refused(arrays: Arrays, change: object, message: str, tmp_path: Path) -> None:
    changed = dict(arrays)
    change(changed)  # type: ignore[operator]
    with pytest.raises(WeightsError, match=message):
        read_foreign(write_pb(tmp_path, changed))
