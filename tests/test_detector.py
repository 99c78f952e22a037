"""The detector as people use it: load, predict, save; and the answers to their mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import singleshot
from singleshot.core.boxes import pairwise_iou
from singleshot.core.settings import PostprocessConfig
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, ImageError, OutputError, WeightsError
from singleshot.images.read import read_image, write_image
from singleshot.prediction.detections import Detections
from singleshot.prediction.frames import Failure, Prediction
from singleshot.runtime.base import EngineBackend
from singleshot.weights.find import find_weights


@pytest.fixture(scope="module")
def coco() -> Detector:
    return load("coco")


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    write_image(tmp_path / "noise.png", image)
    return tmp_path / "noise.png"


def test_public_surface(coco: Detector) -> None:
    assert singleshot.load is load
    assert singleshot.Detector is Detector
    assert coco.class_names[:2] == ("person", "bicycle")
    assert repr(coco) == "Detector(ssdlite300_mobilenet_v2, 80 classes, input 300 x 300)"
    assert not coco.network.training


def test_raw_heads(coco: Detector, noise: Path) -> None:
    batch = torch.stack([coco.preprocess(noise), coco.preprocess(read_image(noise))])
    assert torch.equal(batch[0], batch[1])
    with torch.no_grad():
        output = coco.network(batch)
    anchors = coco.anchors()
    assert output.box_codes.shape == (2, len(anchors), 4)
    assert output.class_logits.shape == (2, len(anchors), 91)
    assert len(coco.anchors((320, 480))) > len(anchors)


def test_one_image_or_many(coco: Detector, noise: Path) -> None:
    pixels = read_image(noise)
    one = coco.predict(noise, score=0.05)
    assert isinstance(one, Detections)
    assert one.path == noise
    assert one.image_size_hw == (60, 80)
    assert coco.predict(str(noise), 0.05) == one
    array = coco.predict(pixels, 0.05)
    assert array.path is None
    np.testing.assert_array_equal(array.boxes_xyxy, one.boxes_xyxy)
    assert coco.predict([]) == []
    many = coco.predict([noise, pixels, str(noise)], 0.05, batch_size=2)
    assert isinstance(many, list)
    for found in many:
        np.testing.assert_allclose(found.scores, one.scores, atol=1e-5)
    for source in (noise.parent, str(noise.parent / "*.png")):
        found_in = coco.predict(source, 0.05)
        assert isinstance(found_in, list)
        assert [found.path for found in found_in] == [noise]


def test_thresholds_are_obeyed(coco: Detector, noise: Path) -> None:
    low = coco.predict(noise, score=0.01)
    high = coco.predict(noise, score=0.05)
    assert isinstance(low, Detections)
    assert isinstance(high, Detections)
    assert 0 < len(high) < len(low)
    assert low.filter(score=0.05) == high
    assert (np.diff(low.scores) <= 0).all()
    few = coco.predict(noise, 0.01, max_detections=3)
    assert isinstance(few, Detections)
    assert few.scores.tolist() == low.scores[:3].tolist()
    assert len(coco.predict(noise, 0.05, nms_iou=0.0)) < len(high)  # type: ignore[arg-type]
    assert len(coco.predict(noise, score=1.0)) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score": 30}, r"did you mean 0\.3"),
        ({"score": "high"}, "number"),
        ({"nms_iou": 1.5}, "nms_iou"),
        ({"max_detections": 0}, "max_detections"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": None}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"max_detections": 1.5}, "max_detections"),
        ({"max_detections": "3"}, "max_detections"),
        ({"device": 0}, "device"),
        ({"backend": 1}, "backend"),
        ({"precision": None}, "precision"),
        ({"classes": ["persn"]}, "did you mean 'person'"),
        ({"classes": 3.5}, "classes"),
    ],
)
def test_settings_that_make_no_sense(coco: Detector, noise: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        coco.predict([noise], **arguments)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.jpg", "no such file"),
        (["missing.jpg"], "no such file"),
        (np.zeros((4, 4), np.uint8), "np.stack"),
        (np.zeros((4, 4, 3)), "uint8"),
        (7, "not int"),
        ("", "is empty"),
        (None, "array"),
        (b"bytes", "array"),
        ({"a.jpg"}, "list"),
        (["missing.jpg", None], "image 2 of the list: .*array"),
        ([["missing.jpg"]], "image 1 of the list: .*array"),
        (iter([None]), "array"),
    ],
)
def test_sources_that_are_none(coco: Detector, source: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        coco.predict(source)


def test_pillow_tensors_and_generators(coco: Detector, noise: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pixels = read_image(noise)
    plain = coco.predict(pixels, 0.05)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for source in (pillow.open(noise), tensor, tensor / 255):
        found = coco.predict(source, 0.05)
        assert found == plain
        assert coco.predict([source], 0.05) == [plain]
    assert coco.predict((item for item in (noise, pixels, str(noise))), 0.05)[1] == plain
    np.testing.assert_array_equal(plain.plot(), plain.plot(pixels))
    assert coco.predict(noise, 0.05).image is None  # type: ignore[union-attr]


def test_streams_take_what_predict_takes(coco: Detector, noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = coco.predictor(0.05)
    (one,) = predictor.stream(str(noise))
    assert isinstance(one, Prediction)
    results = list(predictor.stream([str(noise), noise, None, read_image(noise), "missing.jpg", [noise]], 2))
    assert [isinstance(result, Failure) for result in results] == [False, False, True, False, True, True]
    for wrong in (0, 1.5, None):
        with pytest.raises(ConfigError, match="batch_size"):
            predictor.stream([noise], wrong)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="list"):
        predictor.stream(7)  # type: ignore[arg-type]


def test_only_some_classes(coco: Detector, noise: Path) -> None:
    everything = coco.predict(noise, 0.02, max_detections=10_000)
    assert isinstance(everything, Detections)
    kinds = sorted(set(everything.names))
    assert len(kinds) > 1
    for classes in ([kinds[0]], kinds[:2], kinds[-1], [coco.class_names.index(kinds[0])], []):
        assert coco.predict(noise, 0.02, classes=classes, max_detections=10_000) == everything.filter(classes=classes)
    rarest = min(kinds, key=everything.names.count)
    # The others do not use up the places.
    assert len(coco.predict(noise, 0.02, classes=rarest, max_detections=1)) == 1  # type: ignore[arg-type]


def test_across_classes(coco: Detector, noise: Path) -> None:
    plain, agnostic = (
        coco.predict(noise, 0.02, agnostic=on, nms_iou=0.3, max_detections=10_000) for on in (False, True)
    )
    assert isinstance(plain, Detections)
    assert isinstance(agnostic, Detections)
    assert 0 < len(agnostic) < len(plain)
    boxes = agnostic.boxes_xyxy
    overlaps = pairwise_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).fill_diagonal_(0)
    assert float(overlaps.max()) <= 0.3 + 1e-5


def test_boxes_end_at_the_picture_unless_asked_otherwise(coco: Detector, noise: Path) -> None:
    unclipped = coco.spec.postprocess.model_copy(update={"clip": "none"})
    detector = Detector(coco.spec.model_copy(update={"postprocess": unclipped}), coco.network.state_dict())
    height, width = read_image(noise).shape[:2]
    raw, clipped = (detector.predict(noise, 0.02, clip=clip, backend="torch") for clip in (None, True))
    assert isinstance(raw, Detections)
    assert isinstance(clipped, Detections)
    assert (raw.boxes_xyxy.min() < 0) or (raw.boxes_xyxy > [width, height] * 2).any()
    np.testing.assert_allclose(clipped.boxes_xyxy, raw.boxes_xyxy.clip(0, [width, height] * 2), atol=1e-4)


def test_saved_and_loaded_again(coco: Detector, noise: Path, tmp_path: Path) -> None:
    path = coco.save(tmp_path / "again.safetensors")
    again = load(path)
    assert again.spec == coco.spec
    assert again.predict(noise, 0.02, backend="torch") == coco.predict(noise, 0.02, backend="torch")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("coc", r"Did you mean 'coco'\? .*\(coco, coco-v3\)"),
        ("xyz", "bundled name"),
        ("none/best.safetensors", "does not exist"),
        ("models/bezt.safetensors", r"did you mean models/best\.safetensors"),
        ("models", "is a folder"),
        ("models/best.safetensors", "best"),
    ],
)
def test_weights_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    Path("models/best.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match=message):
        load(weights)


def test_bundled_names_come_before_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("coco").mkdir()
    assert find_weights("coco").suffix == ".safetensors"


def test_default_threshold_keeps_the_models_other_settings(coco: Detector) -> None:
    settings = coco.spec.postprocess
    assert isinstance(settings, PostprocessConfig)
    own, other = (coco.predictor(score, clip=None).backend for score in (settings.score_threshold, 0.5))
    assert isinstance(own, EngineBackend)
    assert isinstance(other, EngineBackend)
    assert own.engine is other.engine
    assert own.settings == settings
    assert other.settings == settings.model_copy(update={"score_threshold": 0.5})


def test_photos_like_the_real_runtime(coco: Detector, reference: Path) -> None:
    """From JPEG files to boxes in photo pixels, against TensorFlow.js (its scores above 0.1; our weights are fp16)."""
    golden = np.load(reference / "golden/weights/tfjs_ssdlite_mobilenet_v2_coco.npz")
    paths = [reference / "data/coco_train343/images" / str(name) for name in golden["files"]]
    for k, found in enumerate(coco.predict(paths, score=0.05, backend="torch")):
        sure = golden[f"i{k}_det_scores"] > 0.1
        height, width = golden[f"i{k}_hw"]
        boxes = golden[f"i{k}_det_boxes"][sure][:, [1, 0, 3, 2]] * [width, height, width, height]
        ids = np.array([row["category_id"] for row in found.to_coco(k)])
        for box, score, category in zip(
            boxes, golden[f"i{k}_det_scores"][sure], golden[f"i{k}_det_classes"][sure], strict=True
        ):
            near = np.abs(found.boxes_xyxy - box).max(axis=1) <= 0.005 * max(height, width)
            assert np.abs(found.scores[near & (ids == category)] - score).min() <= 0.005


def test_import_weights_reads_another_system(reference: Path, tmp_path: Path, noise: Path) -> None:
    tfjs = reference / "weights/ssdlite_mobilenet_v2_coco_tfjs"
    imported = singleshot.import_weights(tfjs, out=tmp_path / "mine.safetensors")
    assert load(tmp_path / "mine.safetensors").predict(noise, 0.02) == imported.predict(noise, 0.02)
    with pytest.raises(WeightsError, match="no such file"):
        singleshot.import_weights(tmp_path / "none.pth")


def test_saving_replaces_nothing_but_weights(coco: Detector, tmp_path: Path) -> None:
    photo, foreign, own = (tmp_path / name for name in ("a.jpg", "theirs.safetensors", "own.safetensors"))
    photo.write_bytes(b"a photo")
    foreign.write_bytes(safetensors.torch.save({"conv.weight": torch.zeros(2)}))
    for path in (photo, foreign):
        before = path.read_bytes()
        with pytest.raises(OutputError, match="exists already: name another file"):
            coco.save(path)
        assert path.read_bytes() == before
    assert coco.save(coco.save(own)) == own


def test_another_input_size(coco: Detector, noise: Path) -> None:
    own, wide = coco.resized((300, 300)), coco.resized("300x600")
    assert torch.equal(own.anchors(), coco.anchors())
    mine, theirs = (model.predict(noise, 0.05, backend="torch") for model in (own, coco))
    assert np.array_equal(mine.boxes_xyxy, theirs.boxes_xyxy)
    assert wide.spec.preprocess.size_hw == (300, 600)
    assert torch.allclose(wide.anchors()[:, 2].max(), 2 * coco.anchors()[:, 2].max())
    assert torch.allclose(wide.anchors()[:, 3].max(), coco.anchors()[:, 3].max())
    assert coco.spec.preprocess.size_hw == (300, 300)
    assert wide.predict(noise, 0.05, backend="torch").image_size_hw == theirs.image_size_hw
    with pytest.raises(ConfigError, match="`size`"):
        coco.resized(0)


def test_candidates_that_enter_nms(coco: Detector, noise: Path) -> None:
    assert (
        len(coco.predict(noise, 0.01, backend="torch")) > len(coco.predict(noise, 0.01, backend="torch", top_k=1)) > 0
    )
