"""Files of torch: every level gives what the detector gives, for any batch and, where that is free, any size."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtime import toy
from singleshot.core.settings import PostprocessConfig
from singleshot.detector import Detector, load
from singleshot.errors import ConfigError, WeightsError
from singleshot.export.writers import WRITERS
from singleshot.models.build import build_network
from singleshot.models.registry import BACKBONES
from singleshot.multibox.decode import postprocess
from singleshot.weights.file import read_spec, read_state

Build = Callable[..., Detector]
SCORE = 0.2


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Build]:
    """A small detector with some settings of postprocessing; in two steps as RefineDet, or in one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES._objects, "toy", toy.toy_backbone)
        path = toy.save_toy(tmp_path_factory.mktemp("weights") / "small.safetensors")

        def make(refines: bool = False, resize: str = "linear", **settings: Any) -> Detector:
            spec, state = read_spec(path), dict(read_state(path))
            changes: dict[str, Any] = {
                "postprocess": PostprocessConfig(**settings),
                "preprocess": spec.preprocess.model_copy(update={"resize": resize, "std": (150,) * 3}),
            }
            if refines:
                head = spec.network.head.model_copy(update={"objectness": True})
                changes["network"] = spec.network.model_copy(update={"head": head})
                torch.manual_seed(1)
                state = dict(build_network(changes["network"]).state_dict()) | state
            return Detector(spec.model_copy(update=changes), state)

        yield make


def run_export(detector: Detector, path: Path, format: str, **wish: Any) -> Callable[[Any], Sequence[Any]]:
    done = detector.export(path, format=format, verify=False, note=str, **wish)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return WRITERS.get(format).open(done.path, done.info)


def noise(batch: int, size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, *size_hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("refines", [False, True], ids=["ssd", "refinedet"])
def test_raw_heads_of_any_batch(build: Build, tmp_path: Path, refines: bool) -> None:
    detector = build(refines)
    format, suffix = ("torch", "pt2") if refines else ("torchscript", "torchscript")
    run = run_export(detector, tmp_path / f"a.{suffix}", format, level="raw")
    for batch in (1, 3):
        images = torch.randn(batch, 3, *toy.SIZE)
        with torch.no_grad():
            expected = detector.network(images)
        assert len(expected) == (4 if refines else 2)
        for ours, theirs in zip(run(images.numpy()), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


DIALECTS: dict[str, dict[str, Any]] = {
    "softmax": {"clip": "none"},
    "columns": {"class_columns": (3, 0, 2), "score_function": "sigmoid", "clip": "before"},
    "refinedet": {"refines": True, "min_objectness": 0.4, "clip": "none"},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_decoded_boxes_are_those_that_nms_sees(build: Build, tmp_path: Path, dialect: str) -> None:
    detector = build(**DIALECTS[dialect])
    run = run_export(detector, tmp_path / "a.torchscript", "torchscript", level="decoded")
    images = torch.randn(2, 3, *toy.SIZE)
    boxes, scores = run(images.numpy())
    settings = detector.spec.postprocess.model_copy(
        update={"nms": "none", "pre_nms_top_k": None, "max_detections": 10**6, "score_threshold": 0.0}
    )
    with torch.no_grad():
        found = postprocess(
            detector.network(images), detector.anchors(), settings, detector.spec.coder, toy.SIZE, len(toy.NAMES)
        )
    for b, count in enumerate(found.counts):
        assert count == (scores[b] > 0).sum() > 0
        order = np.argsort(-scores[b].reshape(-1), kind="stable")[:count]
        np.testing.assert_allclose(scores[b].reshape(-1)[order], found.scores[b, :count], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            boxes[b][order // len(toy.NAMES)].sum(), found.boxes_xyxy[b, :count].sum(), rtol=1e-4
        )


def assert_finds_the_same(detector: Detector, outputs: Sequence[Any], pictures: np.ndarray) -> None:
    """Equal scores may come in another order, so rows are sorted by box."""
    boxes, scores, class_ids, counts = outputs
    for b, picture in enumerate(pictures):
        expected = detector.predict(picture, SCORE, backend="torch", precision="fp32")
        assert counts[b] == len(expected) > 0
        assert (class_ids[b, counts[b] :] == -1).all()
        assert not scores[b, counts[b] :].any()
        assert (np.diff(scores[b]) <= 0).all()
        ours = np.column_stack([boxes[b], scores[b], class_ids[b]])[: counts[b]]
        theirs = np.column_stack([expected.boxes_xyxy, expected.scores, expected.class_ids])
        ours, theirs = (rows[np.lexsort(rows[:, [0, 1, 2, 3, 5]].round(1).T)] for rows in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "dialect",
    [
        {"pre_nms_top_k": None},
        {"resize": "linear_float", "class_agnostic": True, "max_detections": 7},
        {"resize": "linear_legacy", "score_function": "sigmoid", "candidates": "best_class", "nms_compare": ">="},
        {"resize": "linear_antialias", "refines": True, "max_per_class": 2, "nms_union_eps": 1e-3},
        {"nms": "none", "top_k_scope": "image", "pre_nms_top_k": 20, "clip": "none"},
    ],
    ids=lambda dialect: "-".join(dialect),
)
def test_pictures_of_any_size_to_detections(build: Build, tmp_path: Path, dialect: dict[str, Any]) -> None:
    detector = build(**dialect)
    run = run_export(detector, tmp_path / "a.torchscript", "torchscript", level="end2end", dynamic=True, score=SCORE)
    for batch, size_hw in ((1, toy.SIZE), (3, (50, 70)), (2, (200, 40))):
        pictures = noise(batch, size_hw)
        assert_finds_the_same(detector, run(pictures), pictures)


@pytest.mark.heavy
def test_an_exported_program_of_any_batch_and_size(build: Build, tmp_path: Path) -> None:
    detector = build(refines=True, pre_nms_top_k=30, max_per_class=5)
    run = run_export(detector, tmp_path / "a.pt2", "torch", level="end2end", dynamic=True, layout="nchw", score=SCORE)
    for batch, size_hw in ((3, (50, 70)), (1, (200, 40))):
        pictures = noise(batch, size_hw)
        planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
        assert_finds_the_same(detector, run(planes), pictures)


def test_pictures_of_one_size(build: Build, tmp_path: Path) -> None:
    detector = build()
    run = run_export(detector, tmp_path / "a.torchscript", "torchscript", score=SCORE)  # end2end is what it gives
    assert_finds_the_same(detector, run(noise(2, toy.SIZE)), noise(2, toy.SIZE))
    empty = run(np.zeros((1, *toy.SIZE, 3), np.uint8) + 128)
    assert [part.shape for part in empty] == [(1, 200, 4), (1, 200), (1, 200), (1,)]


@pytest.mark.parametrize("format", ["torchscript", "torch"])
def test_nms_without_a_fixed_form_is_refused_before_any_work(build: Build, tmp_path: Path, format: str) -> None:
    with pytest.raises(ConfigError, match=r"NMS is 'soft_linear'.*`level='decoded'`"):
        build(nms="soft_linear").export(tmp_path / "a", format=format)
    assert not list(tmp_path.iterdir())


def test_a_torchscript_file_is_a_model(build: Build, tmp_path: Path) -> None:
    detector, picture = build(), toy.noise()
    for level in ("raw", "decoded", "end2end"):
        score = {"score": SCORE} if level == "end2end" else {}
        done = detector.export(
            tmp_path / f"{level}.pt", format="torchscript", level=level, verify=False, note=str, **score
        )
        model = load(done.path)
        ours, theirs = (one.predict(picture, SCORE) for one in (model, detector))
        assert len(ours) == len(theirs) > 0
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-5)


def test_a_program_of_torch_export_is_told_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("archive_format", "models/model.json", "data/weights/model_weights_config.json"):
            archive.writestr(f"model/{name}", "pt2")
    with pytest.raises(WeightsError, match=r"program of torch\.export, and torch runs whatever code is in one"):
        load(path)


def test_a_torchscript_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.torchscript"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("constants.pkl", "code/a.py", "data.pkl"):
            archive.writestr(f"model/{name}", bytes(10_000_000))
    with pytest.raises(WeightsError, match="would unpack to 30,000,000 bytes"):
        load(path)
