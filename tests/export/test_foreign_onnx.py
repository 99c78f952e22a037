"""ONNX files of TensorFlow's and torchvision's convention as models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from singleshot.detector import load
from singleshot.errors import ConfigError, WeightsError
from singleshot.export.readers import read_exported

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FLOAT, UINT8, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8, onnx.TensorProto.INT64
TF = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
PICTURE = np.zeros((50, 100, 3), dtype=np.uint8)


def save(path: Path, taken: tuple[int, Any], given: dict[str, tuple[int, np.ndarray]]) -> Path:
    """A graph that gives constants, and reads its input so that a wrong one is noticed."""
    info, nodes, constants = onnx.helper.make_tensor_value_info, [], []
    nodes.append(onnx.helper.make_node("Shape", ["in"], ["shape"]))
    nodes.append(onnx.helper.make_node("ReduceSum", ["shape"], ["sum"], keepdims=0))
    nodes.append(onnx.helper.make_node("Sub", ["sum", "sum"], ["zero"]))
    outputs = []
    for name, (kind, values) in given.items():
        constants.append(onnx.numpy_helper.from_array(values, f"{name}/value"))
        nodes.append(onnx.helper.make_node("Cast", ["zero"], [f"{name}/zero"], to=kind))
        nodes.append(onnx.helper.make_node("Add", [f"{name}/value", f"{name}/zero"], [name]))
        outputs.append(info(name, kind, list(values.shape)))
    graph = onnx.helper.make_graph(nodes, "g", [info("in", *taken)], outputs, constants)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def tensorflow(path: Path, suffix: str = "", labels: tuple[int, ...] = (3, 1, 7)) -> Path:
    boxes = np.float32([[[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0, 0, 0, 0]]])
    values = (boxes, np.float32([[0.5, 0.9, 0]]), np.float32([labels]), np.float32([2]))
    given = {name + suffix: (FLOAT, value) for name, value in zip(TF, values, strict=True)}
    return save(path, (UINT8, [1, "h", "w", 3]), given)


def torchvision(path: Path, names: tuple[str, str, str], shape: Any) -> Path:
    values = (np.float32([[10, 5, 60, 45], [0, 0, 20, 20]]), np.float32([0.8, 0.4]), np.int64([2, 90]))
    order = (1, 0, 2) if names[0] == "7" else (0, 1, 2)
    given = {names[i]: (INT64 if i == 2 else FLOAT, values[i]) for i in order}
    return save(path, (FLOAT, shape), given)


@pytest.mark.parametrize("suffix", ["", ":0"])
def test_tensorflow(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load(tensorflow(tmp_path / "tf.onnx", suffix))
    (record,) = caplog.records
    assert "tf.onnx: taken as TensorFlow's by what it gives; it does not name its classes" in record.getMessage()
    found = model.predict(PICTURE, 0.3)
    assert [found.class_names[index] for index in found.class_ids] == ["class_1", "class_3"]
    assert np.allclose(found.scores, [0.9, 0.5])
    assert np.allclose(found.boxes_xyxy, [[0, 0, 100, 50], [20, 5, 60, 25]], atol=1e-3)
    assert model.predictor().backend.name == "onnx TensorFlow graph"
    assert len(model.predict([PICTURE] * 3, 0.6, batch_size=2)[2]) == 1


@pytest.mark.parametrize("names", [("boxes", "scores", "labels"), ("7", "8", "9")])
@pytest.mark.parametrize("shape", [[3, "h", "w"], [1, 3, "h", "w"], [3, 50, 100]])
def test_torchvision(names: tuple[str, str, str], shape: Any, tmp_path: Path) -> None:
    found = load(torchvision(tmp_path / "tv.onnx", names, shape)).predict(PICTURE, 0.3)
    assert found.class_ids.tolist() == [1, 89]
    assert found.category_ids[89] == 90
    assert np.allclose(found.boxes_xyxy, [[10, 5, 60, 45], [0, 0, 20, 20]], atol=1e-3)


def test_a_graph_of_one_size_has_pictures_resized(tmp_path: Path) -> None:
    model = load(torchvision(tmp_path / "tv.onnx", ("boxes", "scores", "labels"), [3, 50, 100]))
    found = model.predict(np.zeros((100, 200, 3), dtype=np.uint8), 0.3)
    assert np.allclose(found.boxes_xyxy[0], [20, 10, 120, 90], atol=1e-3)


def test_labels_that_cannot_be_told(tmp_path: Path) -> None:
    model = load(tensorflow(tmp_path / "tf.onnx", labels=(3, 591, 0)))
    with pytest.raises(WeightsError, match=r"tf.onnx: gives labels 3..591; only 1..90 can be told"):
        model.predict(PICTURE)


def test_what_follows_no_convention_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    boxes, scores, labels = np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(2, np.int64)
    for taken, given in (
        ((FLOAT, [1, 3, 64, 64]), {"output": (FLOAT, boxes)}),
        ((FLOAT, [1, 4, 64, 64]), {"boxes": (FLOAT, boxes), "scores": (FLOAT, scores), "labels": (INT64, labels)}),
        ((FLOAT, [1, 64, 64, 3]), dict.fromkeys(TF, (FLOAT, boxes))),
        ((UINT8, [8, 64, 64, 3]), dict.fromkeys(TF, (FLOAT, boxes))),
    ):
        save(path, taken, given)
        with pytest.raises(WeightsError, match="not of singleshot, and takes in and gives"):
            read_exported(path)


def test_its_own_settings_are_its_own(tmp_path: Path) -> None:
    model = load(tensorflow(tmp_path / "tf.onnx"))
    with pytest.raises(ConfigError, match=r"`nms_iou=0.2`"):
        model.predict(PICTURE, nms_iou=0.2)
    with pytest.raises(ConfigError, match="runs with 'auto' or 'onnx'"):
        model.predict(PICTURE, backend="torch")
