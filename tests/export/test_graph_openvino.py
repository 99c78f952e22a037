"""Detection as OpenVINO operators gives what `postprocess` gives, in every dialect."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from singleshot.core.postprocess import HeadGeometry
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.models.zoo import box_shapes
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.coder import CODER
from singleshot.multibox.decode import postprocess

ov = pytest.importorskip("openvino")

from singleshot.export import graph_openvino  # noqa: E402
from singleshot.export.graph_openvino import OpenVinoForm, detection_model, thresholds  # noqa: E402
from singleshot.export.openvino_core import openvino_core  # noqa: E402

SIZE = (50, 60)
ANCHORS = default_boxes(box_shapes.tf_anchors(levels=3), ((5, 5), (3, 3), (1, 1)), SIZE)
CLASSES = 5


def heads(seed: int, batch: int, refine: bool) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    widths = (4, CLASSES + 2, 4, 2) if refine else (4, CLASSES + 2)
    return [rng.normal(0, 2, (batch, len(ANCHORS), width)).astype(np.float32) for width in widths]


def geometry(anchors: torch.Tensor = ANCHORS, coder: CoderConfig = CODER) -> HeadGeometry:
    return HeadGeometry(anchors.numpy(), coder, SIZE, CLASSES)


def run_graph(parts: list[np.ndarray], config: PostprocessConfig, coder: CoderConfig) -> tuple[np.ndarray, ...]:
    return OpenVinoForm(geometry(ANCHORS, coder))(parts, config)


def check(config: PostprocessConfig, coder: CoderConfig = CODER, seed: int = 0, refine: bool = False) -> int:
    parts = heads(seed, 3, refine)
    boxes, scores, class_ids, counts = run_graph(parts, config, coder)
    tensors = [torch.from_numpy(part) for part in parts]
    output = RefineOutput(*tensors) if refine else HeadOutput(*tensors)
    theirs = postprocess(output, ANCHORS, config, coder, SIZE, CLASSES)
    assert counts.tolist() == theirs.counts.tolist()
    size = boxes.shape[1]
    np.testing.assert_array_equal(class_ids, theirs.class_ids[:, :size])
    np.testing.assert_allclose(scores, theirs.scores[:, :size], atol=1e-6)
    np.testing.assert_allclose(boxes, theirs.boxes_xyxy[:, :size], rtol=1e-5, atol=1e-4)
    return int(counts.sum())


CHOICES: dict[str, tuple[Any, ...]] = {
    "score_function": ("softmax", "sigmoid"),
    "candidates": ("per_class", "best_class"),
    "pre_nms_top_k": (7, None),
    "max_per_class": (3, None),
    "clip": ("before", "after"),
    "nms_compare": (">", ">="),
}
VARIANTS = [dict(zip(CHOICES, row, strict=True)) for row in itertools.product(*CHOICES.values())]


def test_no_detections() -> None:
    assert check(PostprocessConfig(score_threshold=1.0)) == 0


@pytest.mark.parametrize("options", VARIANTS, ids=lambda options: "-".join(map(str, options.values())))
def test_dialects(options: dict[str, Any]) -> None:
    assert check(PostprocessConfig(**options, score_threshold=0.2, max_detections=30), seed=len(str(options)))


@pytest.mark.parametrize("columns", [(1, 2, 3, 4, 5), (0, 1, 3, 4, 6)])
def test_public_classes_at_any_columns(columns: tuple[int, ...]) -> None:
    assert check(PostprocessConfig(class_columns=columns, score_threshold=0.2))


def test_all_classes_as_one() -> None:
    config = PostprocessConfig(class_agnostic=True, candidates="best_class", score_threshold=0.2)
    assert check(config) > check(config.model_copy(update={"pre_nms_top_k": 5})) > 0


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("top_k", [4, None])
def test_candidates_counted_over_an_image(top_k: int | None, agnostic: bool) -> None:
    options = {"candidates": "best_class", "score_threshold": 0.2, "class_agnostic": agnostic}
    config = PostprocessConfig(top_k_scope="image", pre_nms_top_k=top_k, **options)
    assert OpenVinoForm(geometry()).fits(config)
    assert not OpenVinoForm(geometry()).fits(config.model_copy(update={"nms_union_eps": 1e-5}))
    assert 0 < check(config) <= 3 * (top_k or config.max_detections)


@pytest.mark.parametrize("clip", ["before", "after"])
def test_refined_anchors(clip: Any) -> None:
    assert check(PostprocessConfig(min_objectness=0.4, score_threshold=0.2, clip=clip), refine=True)


@pytest.mark.parametrize(
    "coder",
    [CoderConfig(order="yxhw", variances=(0.1, 0.2, 0.3, 0.4)), CoderConfig(max_log_ratio=None)],
    ids=["order", "unlimited"],
)
def test_coders(coder: CoderConfig) -> None:
    assert check(PostprocessConfig(score_threshold=0.2), coder)


def test_threshold_zero_takes_no_masked_candidates() -> None:
    assert check(PostprocessConfig(score_threshold=0.0, candidates="best_class", max_detections=1000)) > 0


def test_boxes_and_scores_at_the_thresholds() -> None:
    """IoU exactly 0.5 and a score of exactly the threshold, where ``>`` and ``>=`` part."""
    anchors = torch.tensor([[5.0, 5, 10, 10], [5, 2.5, 10, 5], [40, 40, 10, 10]])
    logits = np.full((1, 3, CLASSES + 2), -30, dtype=np.float32)
    logits[0, :, 1] = (2.0, 1.0, 0.0)
    for compare, expected in ((">", 2), (">=", 1)):
        config = PostprocessConfig(score_function="sigmoid", score_threshold=0.5, nms_iou=0.5, nms_compare=compare)
        model = detection_model((4, CLASSES + 2), geometry(anchors), config)
        found = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        outputs = found([np.zeros((1, 3, 4), np.float32), logits, *thresholds(config)])
        assert len(outputs[0]) == expected
        assert outputs[1].tolist() == [[2, 0, 0, 0, 0]]


def test_thresholds_need_no_other_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(graph_openvino, "detection_model", lambda *args: made.append(1) or detection_model(*args))
    finish, parts = OpenVinoForm(geometry()), heads(0, 2, refine=False)
    variants = ({}, {"score_threshold": 0.9}, {"nms_iou": 0.1}, {"max_detections": 3}, {"max_per_class": 1})
    settings = [PostprocessConfig(score_threshold=0.2).model_copy(update=changes) for changes in variants]
    counts = [finish(parts, variant)[3].sum() for variant in settings]
    assert len(made) == 1
    assert counts[0] > max(counts[1:])
    finish(parts, PostprocessConfig(candidates="best_class"))
    assert len(made) == 2


def test_many_equal_scores() -> None:
    """A saturated detector: hundreds of candidates at a score of 1, where OpenVINO's MulticlassNms crashes."""
    for seed in range(5):
        parts = heads(seed, 5, refine=False)
        parts[1] *= 100
        assert run_graph(parts, PostprocessConfig(score_threshold=0.3), CODER)[3].min() > 0


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({}, True),
        ({"max_per_class": 10}, True),
        ({"class_agnostic": True, "candidates": "best_class"}, True),
        ({"class_agnostic": True}, False),
        ({"nms": "soft_linear"}, False),
        ({"nms": "none"}, False),
    ],
)
def test_what_the_operator_can_do(changes: dict[str, Any], fits: bool) -> None:
    assert OpenVinoForm(geometry()).fits(PostprocessConfig(**changes)) is fits
