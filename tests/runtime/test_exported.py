"""Exported files as detectors: the same is found as with torch, and what they cannot do is said."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from toy import noise

import singleshot
from singleshot.core.postprocess import HeadGeometry
from singleshot.core.settings import CoderConfig, PostprocessConfig, Variances
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, MissingExtraError, WeightsError
from singleshot.export.decoded import as_heads
from singleshot.export.int8_file import int8_info, int8_path
from singleshot.export.readers import exported_kind, read_exported
from singleshot.export.writers import WRITERS, ExportWish, plan_export
from singleshot.images.read import write_image
from singleshot.prediction.frames import Frame
from singleshot.runtime.base import predict_each
from singleshot.runtime.postprocess import choose_form
from singleshot.training.config import TrainConfig
from singleshot.training.start import _source_file
from singleshot.weights.file import read_spec, read_state

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SCORE = 0.3
FILES = {
    "raw.onnx": {"level": "raw"},
    "decoded.onnx": {"level": "decoded"},
    "pictures.onnx": {"level": "end2end", "dynamic": True},
    "planes.onnx": {"level": "end2end", "dynamic": True, "layout": "nchw"},
    "fixed.onnx": {"level": "end2end"},
    "raw.xml": {"level": "raw", "precision": "fp32"},
    "decoded.xml": {"level": "decoded", "precision": "fp32"},
    "pictures.xml": {"level": "end2end", "dynamic": True, "precision": "fp32"},
}


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    detector = load(weights)
    for name, settings in FILES.items():
        if name.endswith(".xml"):
            pytest.importorskip("openvino")
        form = "openvino" if name.endswith(".xml") else "onnx"
        detector.export(folder / name, format=form, verify=False, note=lambda line: None, **settings)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def detector(weights: Path) -> Detector:
    return load(weights)


def pictures() -> list[np.ndarray]:
    return [noise(0), noise(1), np.ascontiguousarray(noise(2)[:30, :50]), noise(3)]


@pytest.mark.parametrize("name", FILES)
def test_finds_what_torch_finds(name: str, folder: Path, detector: Detector) -> None:
    model = load(folder / name)
    own = pictures()
    if name == "fixed.onnx":  # what it takes has the network's size
        size_hw = detector.spec.preprocess.size_hw
        own = [np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8) for seed in range(4)]
    expected = detector.predict(own, SCORE, backend="torch", precision="fp32", device="cpu", batch_size=3)
    found = model.predict(own, SCORE, batch_size=3)
    assert sum(map(len, expected)) > 20
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.class_names == theirs.class_names
        assert ours.image_size_hw == theirs.image_size_hw
        assert ours.class_ids.tolist() == theirs.class_ids.tolist()
        assert np.allclose(ours.scores, theirs.scores, atol=1e-4)
        assert np.allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=2e-2)
    assert len(model.predict([], SCORE)) == 0


@pytest.mark.parametrize("name", [*FILES, "torch", "openvino"])
def test_each_image_of_a_batch_may_have_thresholds_of_its_own(name: str, folder: Path, detector: Detector) -> None:
    model, backend = (load(folder / name), "auto") if name in FILES else (detector, name)
    asked = [{"score": 0.3}, {"score": 0.5}, {"score": 0.3, "classes": "dog"}, {"score": 0.3}]
    if name not in ("pictures.xml",):  # whose thresholds are in the file
        asked[1] |= {"nms_iou": 0.2, "max_detections": 3}
    predictors = [model.predictor(backend=backend, images=4, **own) for own in asked]  # type: ignore[arg-type]
    frames = [Frame(picture) for picture in pictures()]
    inputs = predictors[0].input_of([frame.pixels for frame in frames])
    found = predict_each([predictor.backend for predictor in predictors], inputs).found
    assert (
        len({len(predictor.finish(found, row, frames[row]).detections) for row, predictor in enumerate(predictors)}) > 1
    )
    for row, predictor in enumerate(predictors):
        ours, alone = (predictor.finish(own, row, frames[row]).detections for own in (found, predictor.detect(inputs)))
        assert ours == alone


@pytest.mark.parametrize("change", [{"nms": "none"}, {"clip": "none"}])
def test_a_dialect_survives_in_a_file(change: dict[str, str], weights: Path, tmp_path: Path) -> None:
    """Without NMS nothing is suppressed; boxes that may leave the picture end there in a file."""
    spec = read_spec(weights)
    spec = spec.model_copy(update={"postprocess": spec.postprocess.model_copy(update=change)})
    own = Detector(spec, read_state(weights))
    path = own.export(tmp_path / "a.onnx", dynamic=True, verify=False, note=lambda line: None).path
    ours, theirs = (model.predict(noise(), SCORE) for model in (load(path), own))
    assert ours.class_ids.tolist() == theirs.class_ids.tolist()
    assert np.allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=2e-2)
    many = load(path).predict(noise(), SCORE, max_detections=10**9)
    assert len(many) >= len(ours)


def test_evaluation_of_a_file_that_ends_boxes_at_the_picture(weights: Path, tmp_path: Path) -> None:
    spec = read_spec(weights)
    spec = spec.model_copy(update={"postprocess": spec.postprocess.model_copy(update={"clip": "none"})})
    detector = Detector(spec, read_state(weights))
    path = detector.export(tmp_path / "a.onnx", dynamic=True, verify=False, note=lambda line: None).path
    write_image(tmp_path / "photo.png", noise())
    name = spec.class_names[0]
    labels = {
        "images": [{"id": 1, "file_name": "photo.png", "width": noise().shape[1], "height": noise().shape[0]}],
        "categories": [{"id": 1, "name": name}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 2, 20, 20], "area": 400, "iscrowd": 0}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    notes: list[str] = []
    result = singleshot.evaluate(path, tmp_path / "labels.json", on_note=notes.append)
    assert len(result.detections)
    assert any("ends boxes at the picture" in line for line in notes)


def test_a_model_says_its_own_score(weights: Path) -> None:
    every = load(weights).predict(noise(), 0, max_detections=10**9, backend="torch").scores
    high, low = (float(every[count - 1 : count + 1].mean()) for count in (40, 80))
    spec = read_spec(weights).model_copy(update={"default_score": high})
    own = Detector(spec, read_state(weights))
    assert len(own.predict(noise(), backend="torch")) == 40
    assert [len(found) for _, found in own.stream([noise()], backend="torch")] == [40]
    assert len(own.predict(noise(), low, backend="torch")) == 80
    for wish, score in ((ExportWish(level="raw"), high), (ExportWish(), high), (ExportWish(score=low), low)):
        _, info = plan_export(spec, wish)
        assert (info.score, info.spec.default_score) == (score, score)


def test_a_name_says_nothing(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(folder / "raw.onnx", tmp_path / "model.bin"))
    assert exported_kind(path) == "onnx"
    assert len(load(path).predict(noise(), SCORE))
    assert exported_kind(tmp_path) is None
    assert exported_kind(tmp_path / "nothing") is None


def test_weights_are_no_exported_file(weights: Path) -> None:
    assert read_exported(weights) is None
    assert load(weights).exported is None


def test_a_copy_in_another_process_is_the_same(folder: Path) -> None:
    for name in ("raw.onnx", "pictures.onnx"):
        model = load(folder / name)
        twin = pickle.loads(pickle.dumps(model))  # noqa: S301
        assert twin.predict(noise(), SCORE).scores.tolist() == model.predict(noise(), SCORE).scores.tolist()


def test_what_needs_the_network_says_what_to_use(folder: Path) -> None:
    model = load(folder / "raw.onnx")
    for purpose, call in {
        "the network": lambda: model.network,
        "a tensor of default boxes": lambda: model.anchors(),
        "`size=96`": lambda: model.resized(96),
        "saving": lambda: model.save(folder / "never.safetensors"),
        "exporting": lambda: model.export(folder / "never.onnx"),
        "training": lambda: _source_file(TrainConfig.model_construct(weights=str(folder / "raw.onnx"))),
    }.items():
        with pytest.raises(ConfigError, match=r"needs a weights file \(.safetensors\), not an exported one") as caught:
            call()
        assert f"raw.onnx: {purpose} needs" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("raw.onnx", {"backend": "torch"}, "`backend='torch'`: .*raw.onnx runs with 'auto' or 'onnx' or 'openvino'"),
        ("raw.xml", {"backend": "onnx"}, "`backend='onnx'`: .*raw.xml runs with 'auto' or 'openvino': it is openvino"),
        ("pictures.onnx", {"backend": "openvino"}, "runs with 'auto' or 'onnx': it is onnx, level end2end"),
        ("pictures.onnx", {"precision": "int8"}, "`precision='int8'`: .*pictures.onnx computes in fp32"),
        ("decoded.onnx", {"device": "cuda"}, "`device='cuda'` goes with `backend='torch'`"),
        ("raw.onnx", {"precision": "int8"}, r"raw.int8.onnx is missing, .* 'singleshot quantize .*raw.onnx IMAGES"),
        ("pictures.onnx", {"agnostic": True}, "`agnostic=True`: .* does NMS its own way"),
        ("pictures.onnx", {"top_k": 3}, "`top_k=3`: .* does NMS its own way"),
        ("pictures.onnx", {"clip": False}, "`clip=False`: .* ends boxes at the picture"),
        ("pictures.xml", {"score": 0.1}, r"`score=0.1`: .*pictures.xml has 0.3 built in"),
        ("pictures.xml", {"nms_iou": 0.2}, r"`nms_iou=0.2`: .*pictures.xml has 0.45 built in"),
        ("pictures.xml", {"max_detections": 500}, r"`max_detections=500`: .*pictures.xml gives 200 at most"),
    ],
)
def test_contradictions(name: str, how: dict[str, object], message: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load(folder / name).predict(noise(), **how)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "how",
    [{"score": 0.05}, {"score": 0.6}, {"nms_iou": 0.1}, {"max_detections": 2}, {"classes": ["dog"]}],
    ids=lambda how: next(iter(how)),
)
def test_thresholds_of_a_call(how: dict[str, object], folder: Path, detector: Detector) -> None:
    expected = detector.predict(noise(), backend="torch", precision="fp32", device="cpu", **how)  # type: ignore[call-overload]
    names = ["raw.onnx", "decoded.onnx", "pictures.onnx"]
    if how.keys() & {"max_detections"} or how == {"score": 0.6}:
        names.append("pictures.xml")
    for name in names:
        found = load(folder / name).predict(noise(), **how)  # type: ignore[call-overload]
        assert found.class_ids.tolist() == expected.class_ids.tolist(), name
        assert np.allclose(found.scores, expected.scores, atol=1e-4), name


def test_a_full_file_may_lack_some_of_the_chosen_classes(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load(folder / "pictures.xml")
    for _ in range(2):
        assert len(model.predict(noise(), classes=["dog"])) < 200
    (record,) = caplog.records
    assert "gives 200 detections of all classes at most" in record.getMessage()


def test_tiles_and_streams(folder: Path, detector: Detector) -> None:
    for name in ("raw.onnx", "pictures.onnx"):
        (ours,) = load(folder / name).stream([noise()], SCORE, tile=32)
        (theirs,) = detector.stream([noise()], SCORE, tile=32, backend="torch", precision="fp32", device="cpu")
        assert ours.detections.class_ids.tolist() == theirs.detections.class_ids.tolist()


def test_is_measured(folder: Path) -> None:
    rows = list(singleshot.benchmark(folder / "pictures.onnx", batch_size=2, seconds=0.01))
    assert [(row.backend, row.batch_size, row.skipped) for row in rows] == [("onnx end2end fp32", 2, "")]
    rows = list(singleshot.benchmark(folder / "raw.onnx", batch_size=1, backend="onnx", seconds=0.01))
    assert [row.backend for row in rows if not row.skipped] == ["onnx fp32"]


def test_quantize_takes_raw_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_is(package, images, most):  # type: ignore[no-untyped-def] # NNCF would take seconds
        info = package.info.model_copy(update={"quantized": True, "quantization": {"images": 10.0}})
        return type(package)(info, package.anchors_cxcywh, package.parts)

    monkeypatch.setattr("singleshot.prediction.quantize.quantize_package", as_it_is)
    cv2.imwrite(str(tmp_path / "a.png"), noise())
    raw = Path(shutil.copy(folder / "raw.onnx", tmp_path))
    done = singleshot.quantize(raw, tmp_path / "a.png", backend="onnx")
    assert done.path == int8_path(raw, "onnx")
    assert load(raw).predictor(precision="int8").backend.name == "onnx int8"
    decoded = Path(shutil.copy(folder / "decoded.onnx", tmp_path))
    with pytest.raises(ConfigError, match="only exported files of level raw are made int8, not onnx decoded"):
        singleshot.quantize(decoded, tmp_path / "a.png", backend="onnx")


def test_int8_belongs_to_the_numbers_too(folder: Path, tmp_path: Path) -> None:
    raw = Path(shutil.copy(folder / "raw.xml", tmp_path))
    numbers = Path(shutil.copy(folder / "raw.bin", tmp_path))
    file = read_exported(raw)
    assert file is not None
    file.package("openvino").save(int8_path(raw))
    assert int8_info(raw, "openvino") is not None
    content = bytearray(numbers.read_bytes())
    content[0] ^= 1
    numbers.write_bytes(content)
    os.utime(numbers, ns=(0, 0))
    assert int8_info(raw, "openvino") is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError(name="ai_edge_litert"), "running it needs the package 'ai-edge-litert': pip install"),
        (ModuleNotFoundError(name="torch"), "needs the package 'torch'.*extra 'train'"),
        (
            ImportError("libx.so: not found", name="ai_edge_litert._x"),
            "damaged .libx.so: not found.: reinstall the pack",
        ),
    ],
)
def test_a_runtime_that_is_missing_or_damaged(
    folder: Path, error: ImportError, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(WRITERS.get("litert")), "open", fail)
    file = read_exported(folder / "raw.onnx")
    assert file is not None
    with pytest.raises((MissingExtraError, WeightsError), match=message):
        replace(file, kind="litert", opened=None).open()


def test_decoded_boxes_as_heads() -> None:
    boxes = np.array([[[10, 20, 30, 60], [0, 0, 1e-3, 5], [7, 7, 7, 7]]], dtype=np.float32)
    scores = np.array([[[0.9, 0.2], [1.0, 0.0], [0.0, 0.5]]], dtype=np.float32)
    coder = CoderConfig(variances=Variances(1.0, 1.0, 1.0, 1.0), max_log_ratio=None)
    anchors = np.tile(np.array([0, 0, 1, 1], dtype=np.float32), (3, 1))
    settings = PostprocessConfig(
        score_function="sigmoid", class_columns=(0, 1), score_threshold=0.1, nms="none", clip="none"
    )
    found = choose_form(HeadGeometry(anchors, coder, (100, 100), 2))(as_heads(boxes, scores), settings)
    assert found.counts.tolist() == [4]
    assert np.allclose(found.scores[0], [1.0, 0.9, 0.5, 0.2], atol=1e-6)
    assert np.allclose(found.boxes_xyxy[0], boxes[0, [1, 0, 2, 0]], atol=1e-4)


def test_what_is_changed_after_the_look_is_an_error(folder: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(folder / "pictures.onnx", tmp_path))
    model = load(path)
    path.write_bytes(b"\x08\x08\x12\x00")
    with pytest.raises(WeightsError, match=r"pictures.onnx: cannot be run: .*export it again"):
        model.predict(noise())


def swapped_channels(graph: Any) -> None:
    first = next(one for one in graph.initializer if len(one.dims) == 4 and one.dims[1] == 3)
    first.dims[:] = [first.dims[1], first.dims[0], *first.dims[2:]]


def boxes_without_numbers(graph: Any) -> None:
    for node in graph.node:
        node.output[:] = ["true" if name == "boxes" else name for name in node.output]
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32("nan"), "nan"))
    graph.node.append(onnx.helper.make_node("Mul", ["true", "nan"], ["boxes"]))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("raw.onnx", swapped_channels, r"raw.onnx: cannot be run: .*damaged or foreign: export it again"),
        ("decoded.onnx", boxes_without_numbers, r"decoded.onnx: gives boxes that are not finite: it is damaged"),
    ],
)
def test_a_graph_that_is_wrong_when_it_runs_is_an_error(
    name: str, damage: Callable[[Any], None], message: str, folder: Path, tmp_path: Path
) -> None:
    model = onnx.load(folder / name)
    assert model.metadata_props.pop().key == "singleshot_sha256"
    damage(model.graph)
    onnx.save(model, tmp_path / name)
    with pytest.raises(WeightsError, match=message):
        load(tmp_path / name).predict(noise())
