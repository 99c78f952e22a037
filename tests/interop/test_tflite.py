"""TFLite graphs: made by their names, folded as the converter does, computed without our network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_tensorflow_family import FORMS, STATISTICS, TOLERANCE, Arrays, made, pixels
from tflite_writer import CONV, CUSTOM, DEPTHWISE, SAME, VALID, Writer

from singleshot.detector import load
from singleshot.errors import WeightsError
from singleshot.interop.read import read_foreign
from singleshot.interop.tensorflow.tflite import read_arrays
from singleshot.models.build import build_network
from singleshot.weights.file import load_state


def folded(arrays: Arrays) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel, as TensorFlow has it, and bias of every layer; BatchNorms go into both."""
    layers = {}
    for name, kernel in arrays.items():
        layer, _, kind = name.rpartition("/")
        if kind not in ("weights", "depthwise_weights"):
            continue
        if f"{layer}/biases" in arrays:
            layers[layer] = kernel, arrays[f"{layer}/biases"]
            continue
        gamma, beta, mean, variance = (arrays[f"{layer}/BatchNorm/{one}"] for one in STATISTICS)
        factor = (gamma / np.sqrt(variance + 1e-3)).astype(np.float32)
        layers[layer] = kernel * (factor[:, None] if kind.startswith("depthwise") else factor), beta - mean * factor
    return layers


def graph(arrays: Arrays, size: int, kind: str = "f4", padding: int = SAME, activation: int = 0) -> Writer:
    writer = Writer((1, size, size, 3))
    for layer, (kernel, bias) in folded(arrays).items():
        is_depthwise = kernel.shape[3] == 1 and f"{layer}/depthwise_weights" in arrays
        inputs = [writer.constant("x", value.astype(kind)) for value in (kernel.transpose(3, 0, 1, 2), bias)]
        last = "BiasAdd" if f"{layer}/biases" in arrays else "BatchNorm/FusedBatchNormV31"
        # Names of what was fused follow, as the converter writes them.
        output = writer.tensor(f"{layer}/{last};FeatureExtractor/Other/Conv2D", (1, 1, 1, len(bias)))
        writer.operate(DEPTHWISE if is_depthwise else CONV, [writer.image, *inputs], output, padding, activation)
    return writer


@pytest.fixture(scope="module")
def whole() -> tuple[Arrays, torch.Tensor, torch.Tensor]:
    return made(FORMS["ssd_mobilenet_v2, mixed"])


@pytest.fixture(scope="module")
def mixed(whole: tuple[Arrays, torch.Tensor, torch.Tensor]) -> Arrays:
    return whole[0]


@pytest.mark.parametrize("name", ["ssd_mobilenet_v2, mixed", "ssd_mobilenet_v3_large"])
def test_heads(name: str, whole: tuple[Arrays, torch.Tensor, torch.Tensor], tmp_path: Path) -> None:
    arrays, codes, logits = whole if "v2" in name else made(FORMS[name])
    size = FORMS[name].size
    path = tmp_path / "x.tflite"
    path.write_bytes(graph(arrays, size).write())
    spec, state, _ = read_foreign(path)
    assert spec.preprocess.size_hw == (size, size)
    network = build_network(spec.network).eval()
    load_state(network, state, path)
    with torch.no_grad():
        output = network(pixels(size))
    # What the gates of v3 multiply by is not stored; it is a sixth here.
    tolerance = 1e-3 if "v3" in name else TOLERANCE
    for ours, theirs in ((output.box_codes, codes), (output.class_logits, logits)):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < tolerance


def test_a_graph_is_a_model(mixed: Arrays, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(graph(mixed, 96).write())
    model = load(path)
    first, *guessed = caplog.messages
    assert first == f"{path}: of another system, converted in memory: 'singleshot import {path}' keeps what it becomes"
    assert any("default boxes" in line for line in guessed)
    spec, state, _ = read_foreign(path)
    assert model.spec == spec
    assert all(torch.equal(value, state[name]) for name, value in model.network.state_dict().items() if name in state)


def test_a_graph_that_is_no_ssd_of_ours(tmp_path: Path) -> None:
    writer = Writer((1, 32, 32, 3))
    inputs = [writer.constant("x", np.ones((2, 1, 1, 3), np.float32)), writer.constant("y", np.ones(2, np.float32))]
    writer.operate(CONV, [writer.image, *inputs], writer.tensor("A/Relu6", (1, 32, 32, 2)))
    (tmp_path / "x.tflite").write_bytes(writer.write())
    with pytest.raises(WeightsError, match=r"x\.tflite: not an SSD that is known; supported are"):
        load(tmp_path / "x.tflite")


def test_half_floats(mixed: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(graph(mixed, 96, "f2").write())
    _, state, report = read_foreign(path)
    assert (report.source, report.left_over) == ("tflite", ())
    kernel, bias = folded(mixed)["FeatureExtractor/MobilenetV2/Conv"]
    half = torch.from_numpy(kernel.transpose(3, 2, 0, 1).astype(np.float16).astype(np.float32))
    assert torch.equal(state["backbone.stem.conv.weight"], half)
    assert torch.equal(state["backbone.stem.bn.bias"], torch.from_numpy(bias.astype(np.float16).astype(np.float32)))


def test_weights_of_8_bits_and_stored_boxes(tmp_path: Path) -> None:
    writer = Writer((1, 32, 32, 3))
    scales = np.array([0.5, 2.0])
    kernel = writer.constant("k", np.arange(-3, 3, dtype=np.int8).reshape(2, 1, 1, 3), scales)
    bias = writer.constant("b", np.ones(2, np.float32))
    writer.operate(CONV, [writer.image, kernel, bias], writer.tensor("A/Relu6", (1, 16, 16, 2)))
    boxes = writer.constant("anchors", np.ones((5, 4), np.float32))
    writer.operate(CUSTOM, [0, 0, boxes], writer.tensor("found", (1, 10, 4)))
    (tmp_path / "x.tflite").write_bytes(writer.write())
    arrays = read_arrays(tmp_path / "x.tflite")
    np.testing.assert_array_equal(arrays["A/Conv2D/merged_input"][0, 0].T, [[-1.5, -1, -0.5], [0, 2, 4]])
    np.testing.assert_array_equal(arrays["normalized_input_image_tensor"], [1, 32, 32, 3])
    assert arrays["anchors"].shape == (5, 4)


def test_graphs_that_are_refused(mixed: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    whole = graph(mixed, 96).write()
    refused = {
        "reads? floats": Writer((1, 96, 96, 3), "u1").write(),
        "not an SSD that is known": Writer((1, 96, 96, 3)).write(),
        "does not pad as SAME": graph(mixed, 96, padding=VALID).write(),
        "does not end with ReLU6": graph(mixed, 96, activation=1).write(),
        "damaged": whole[: len(whole) // 2],
        "not recognised": whole[:4] + b"XXXX" + whole[8:],
    }
    for message, content in refused.items():
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            read_foreign(path)
