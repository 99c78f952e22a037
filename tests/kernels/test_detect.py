"""The compiled postprocessing gives what `multibox.postprocess` gives, in every dialect."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.kernels import detect as module
from singleshot.kernels.detect import detect, fits
from singleshot.models.zoo import box_shapes
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.decode import postprocess
from singleshot.multibox.scores import class_scores

pytestmark = pytest.mark.skipif(not fits(PostprocessConfig()), reason="no C compiler here")

SIZE = (50, 60)
ANCHORS = default_boxes(box_shapes.tf_anchors(levels=3), ((5, 5), (3, 3), (1, 1)), SIZE)
COUNT = len(ANCHORS)
NEAR = 1e-6

Parts = list[np.ndarray]


def heads(seed: int, batch: int, columns: int = 7, refine: bool = False) -> Parts:
    """Noise."""
    rng = np.random.default_rng(seed)
    widths = (4, columns, 4, 2) if refine else (4, columns)
    return [rng.normal(0, 2, (batch, COUNT, width)).astype(np.float32) for width in widths]


def coarse_heads(seed: int, batch: int, columns: int) -> Parts:
    """Few different numbers: equal scores, boxes on a grid, overlaps exactly at a threshold."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((batch, COUNT, 4), dtype=np.float32)
    codes[..., :2] = rng.integers(-4, 5, (batch, COUNT, 2))
    return [codes, rng.integers(-4, 5, (batch, COUNT, columns)).astype(np.float32)]


GRID = torch.tensor([[x, y, 8.0, 8.0] for x in range(0, 60, 4) for y in range(0, 48, 4)])[:COUNT]
"""Anchors whose overlaps are simple fractions."""


def as_output(parts: Parts) -> HeadOutput | RefineOutput:
    tensors = [torch.from_numpy(part) for part in parts]
    return HeadOutput(*tensors) if len(tensors) == 2 else RefineOutput(*tensors)


def check(
    parts: Parts, config: PostprocessConfig, coder: CoderConfig | None = None, anchors: torch.Tensor = ANCHORS,
    classes: int | None = None,
) -> int:  # fmt: skip
    """Compare with torch; the number of detections."""
    coder = coder or CoderConfig()
    ours = detect(parts, anchors.numpy(), config, coder, SIZE, classes)
    theirs = [tensor.numpy() for tensor in postprocess(as_output(parts), anchors, config, coder, SIZE, classes)]
    assert [array.dtype for array in ours] == [array.dtype for array in theirs]
    np.testing.assert_array_equal(ours.counts, theirs[3])
    size = int(theirs[3].max(initial=0))
    np.testing.assert_array_equal(ours.class_ids, theirs[2][:, :size])
    np.testing.assert_allclose(ours.scores, theirs[1][:, :size], rtol=0, atol=NEAR)
    np.testing.assert_allclose(ours.boxes_xyxy, theirs[0][:, :size], rtol=1e-5, atol=1e-4)
    return int(ours.counts.sum())


def are_apart(parts: Parts, config: PostprocessConfig) -> bool:
    """Whether no two scores of an image, and none and the threshold, are so near that rounding decides their order."""
    scores = class_scores(as_output(parts), config).flatten(1).numpy()
    scores = np.concatenate([scores, np.full((len(scores), 1), config.score_threshold, dtype=np.float32)], axis=1)
    gaps = np.diff(np.sort(scores, axis=1), axis=1)
    return bool((gaps[np.sort(scores, axis=1)[:, 1:] >= config.score_threshold] > 1e-7).all())


CHOICES: dict[str, tuple[Any, ...]] = {
    "score_function": ("softmax", "sigmoid"),
    "candidates": ("per_class", "best_class"),
    "class_agnostic": (False, True),
    "pre_nms_top_k": (7, None),
    "max_per_class": (3, None),
    "clip": ("before", "after", "none"),
    "nms_compare": (">", ">="),
    "nms": ("greedy", "none"),
}
VARIANTS = [dict(zip(CHOICES, row, strict=True)) for row in itertools.product(*CHOICES.values())]


@pytest.mark.parametrize("batch", [0, 1])
def test_no_images_and_no_candidates(batch: int) -> None:
    assert check(heads(0, batch), PostprocessConfig(score_threshold=1.0)) == 0


def test_dialects() -> None:
    for number, options in enumerate(VARIANTS):
        config = PostprocessConfig(**options, score_threshold=0.2, max_detections=30)
        assert check(heads(number, 3), config) > 0, options


dialects = st.fixed_dictionaries(
    {
        **{name: st.sampled_from(values) for name, values in CHOICES.items() if name != "score_function"},
        "score_threshold": st.sampled_from([0.0, 0.01, 0.3, 0.9, 1.0]),
        "nms_iou": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        "pre_nms_top_k": st.sampled_from([None, 1, 4, 50]),
        "max_per_class": st.sampled_from([None, 1, 9]),
        "max_detections": st.sampled_from([1, 8, 9, 400]),
    }
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), dialects, st.integers(2, 20))
def test_equal_scores_and_overlaps_at_the_threshold(seed: int, options: dict[str, Any], columns: int) -> None:
    config = PostprocessConfig(score_function="sigmoid", **options)
    check(coarse_heads(seed, 2, columns), config, anchors=GRID, coder=CoderConfig(variances=(0.125, 0.125, 1, 1)))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), dialects, st.integers(2, 20), st.booleans(), st.sampled_from([None, 4.0, 0.1]))
def test_equals_torch(seed: int, options: dict[str, Any], columns: int, refine: bool, limit: float | None) -> None:
    parts = heads(seed, 2, columns, refine)
    config = PostprocessConfig(min_objectness=0.4, **options)
    assume(are_apart(parts, config))
    check(parts, config, CoderConfig(max_log_ratio=limit, variances=(0.1, 0.2, 0.3, 0.4)))


@pytest.mark.parametrize("columns", [2, 3, 7, 8, 9, 15, 16, 17, 21, 91])
def test_any_number_of_columns(columns: int) -> None:
    for seed in range(5):
        assert check(heads(seed, 2, columns), PostprocessConfig(score_threshold=0.02)) > 0


@pytest.mark.parametrize("columns", [(0, 1, 2, 3, 4, 5, 6), (4, 1), (6, 0), (3,)])
@pytest.mark.parametrize("score_function", ["softmax", "sigmoid"])
@pytest.mark.parametrize("candidates", ["per_class", "best_class"])
def test_public_classes_at_any_columns(columns: tuple[int, ...], score_function: Any, candidates: Any) -> None:
    config = PostprocessConfig(
        class_columns=columns, score_threshold=0.3, score_function=score_function, candidates=candidates
    )
    assert check(heads(3, 2), config) > 0


def test_num_classes_leaves_out_later_columns() -> None:
    assert check(heads(0, 2), PostprocessConfig(), classes=4) > 0
    assert detect(heads(0, 2), ANCHORS.numpy(), PostprocessConfig(), CoderConfig(), SIZE, 4).class_ids.max() == 3


def test_codes_as_tensorflow_orders_them() -> None:
    assert check(heads(0, 2), PostprocessConfig(), CoderConfig(order="yxhw", variances=(0.1, 0.2, 0.3, 0.4))) > 0


def test_one_anchor() -> None:
    parts = [part[:, :1] for part in heads(4, 6)]
    assert check(parts, PostprocessConfig(score_threshold=0.1), anchors=ANCHORS[:1]) > 0


@pytest.mark.parametrize("score_function", ["softmax", "sigmoid"])
def test_everything_is_a_candidate(score_function: Any) -> None:
    config = PostprocessConfig(
        score_function=score_function, score_threshold=0.0, pre_nms_top_k=None, max_detections=5000, nms="none"
    )
    parts = [part * 0.5 for part in heads(1, 2)]
    found = detect(parts, ANCHORS.numpy(), config, CoderConfig(), SIZE)
    assert found.counts.tolist() == [COUNT * 6] * 2
    assert (np.diff(found.scores[:, : COUNT * 6]) <= 0).all()
    scores = np.sort(class_scores(as_output(parts), config)[..., 1:].flatten(1).numpy())[:, ::-1]
    np.testing.assert_allclose(found.scores[:, : COUNT * 6], scores, rtol=3e-7)


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0, 1e4, 1e6, 1e38])
@pytest.mark.parametrize("threshold", [1e-30, 1e-6, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("score_function", ["softmax", "sigmoid"])
@pytest.mark.parametrize("columns", [None, (0, 1, 2, 3, 4, 5, 6)])
def test_no_candidate_is_lost_however_large_the_logits_are(
    scale: float, threshold: float, score_function: Any, columns: Any
) -> None:
    parts = heads(0, 2)
    parts[1] = np.clip(parts[1].astype(np.float64) * scale + scale, -3e38, 3e38).astype(np.float32)
    config = PostprocessConfig(
        score_function=score_function, score_threshold=threshold, pre_nms_top_k=None, max_detections=5000, nms="none",
        class_columns=columns,
    )  # fmt: skip
    found = detect(parts, ANCHORS.numpy(), config, CoderConfig(), SIZE)
    scores = class_scores(as_output(parts), config).numpy()[..., list(columns or range(1, 7))]
    assert found.counts.tolist() == [int((image > np.float32(threshold)).sum()) for image in scores]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -np.nan])
@pytest.mark.parametrize("score_function", ["softmax", "sigmoid"])
@pytest.mark.parametrize("candidates", ["per_class", "best_class"])
@pytest.mark.parametrize("threshold", [0.0, 0.2])
@pytest.mark.parametrize("part", range(4))
def test_numbers_that_are_none(part: int, value: float, score_function: Any, candidates: Any, threshold: float) -> None:
    batches = [heads(seed, 3, refine=True) for seed in range(4)]
    for seed, batch in enumerate(batches):
        flat = batch[part].reshape(-1)
        flat[np.random.default_rng(seed).integers(0, flat.size, flat.size // 10)] = value
    parts = [np.concatenate(each) for each in zip(*batches, strict=True)]
    for changes in ({}, {"nms": "none"}, {"nms_iou": 0.0, "nms_compare": ">="}):
        config = PostprocessConfig(
            score_function=score_function, candidates=candidates, score_threshold=threshold, min_objectness=0.3,
            max_detections=400, **changes,
        )  # fmt: skip
        assert check(parts, config, CoderConfig(max_log_ratio=None)) > 0


def test_logits_so_large_that_the_threshold_is_lost_in_rounding() -> None:
    parts = heads(0, 1, 20)
    for columns in (slice(0, 8), slice(12, 20), slice(0, 20)):
        parts[1][:] = 0
        parts[1][..., columns] = 1e9
        parts[1][..., 0] = 1e9
        assert check(parts, PostprocessConfig(score_threshold=0.04)) > 0


def test_an_object_must_be_likelier_than_the_least() -> None:
    parts = heads(0, 1, refine=True)
    parts[3][:] = 3.0
    assert check(parts, PostprocessConfig(min_objectness=0.5)) == 0
    assert check(parts, PostprocessConfig(min_objectness=0.4999)) > 0


def test_boxes_without_area() -> None:
    parts = coarse_heads(0, 2, 5)
    anchors = GRID.clone()
    anchors[::2, 2:] = 0
    anchors[1::3, 2] = -4
    for compare in (">", ">="):
        for iou in (0.0, 0.5):
            config = PostprocessConfig(score_function="sigmoid", nms_compare=compare, nms_iou=iou)  # type: ignore[arg-type]
            assert check(parts, config, anchors=anchors) > 0


def test_many_survivors_of_one_class() -> None:
    """Lists longer than a block, and a chain in which every second box survives."""
    count = 301
    steps = torch.arange(float(count))
    anchors = torch.stack([steps, torch.ones(count), torch.full((count,), 2.0), torch.ones(count)], dim=1)
    logits = np.zeros((1, count, 2), dtype=np.float32)
    logits[0, :, 1] = 5 - np.arange(count) / 100
    config = PostprocessConfig(nms_iou=0.3, clip="none", pre_nms_top_k=None)
    assert check([np.zeros((1, count, 4), np.float32), logits], config, anchors=anchors) == 151


def test_arrays_of_any_layout() -> None:
    parts = heads(0, 4)
    turned = [np.asfortranarray(part.astype(np.float64)) for part in parts]
    config = PostprocessConfig()
    expected = detect(parts, ANCHORS.numpy(), config, CoderConfig(), SIZE)
    for ours, theirs in zip(detect(turned, ANCHORS.numpy(), config, CoderConfig(), SIZE), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("shapes_of_heads", "anchors", "options", "message"),
    [
        ([(1, 3, 4)], (3, 4), {}, "expected two or four"),
        ([(1, 3, 4), (1, 2, 5)], (3, 4), {}, "expected"),
        ([(1, 3, 4), (1, 3, 5)], (2, 4), {}, "expected"),
        ([(1, 3, 4), (1, 3, 5), (1, 3, 4), (1, 3, 1)], (3, 4), {}, "expected"),
        ([(1, 3, 4), (1, 3, 0)], (3, 4), {}, "expected one column or more"),
        ([(1, 3, 4), (1, 3, 5)], (3, 4), {"class_columns": (5,)}, "expected different ones of 0..4"),
        ([(1, 3, 4), (1, 3, 5)], (3, 4), {"class_columns": (-1,)}, "greater than or equal to 0"),
        ([(1, 3, 4), (1, 3, 5)], (3, 4), {"class_columns": (1, 1)}, "expected different ones of 0..4"),
        ([(1, 3, 4), (1, 3, 5)], (3, 4), {"nms": "soft_linear"}, "see fits"),
    ],
)
def test_mistakes(shapes_of_heads: Any, anchors: Any, options: Any, message: str) -> None:
    parts = [np.zeros(shape, dtype=np.float32) for shape in shapes_of_heads]
    with pytest.raises(ValueError, match=message):
        detect(parts, np.zeros(anchors, dtype=np.float32), PostprocessConfig(**options), CoderConfig(), SIZE)


def test_without_a_compiler_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load", lambda *_, **__: None)
    module._function.cache_clear()
    assert not fits(PostprocessConfig())
    module._function.cache_clear()


@pytest.mark.parametrize(("nms", "can"), [("greedy", True), ("none", True), ("soft_linear", False)])
def test_what_it_can_do(nms: Any, can: bool) -> None:
    assert fits(PostprocessConfig(nms=nms)) is can


@pytest.mark.parametrize("image", [0, 1, 2])
def test_detections_of_the_real_tensorflow_model(image: int, reference: Path) -> None:
    golden = np.load(reference / "golden" / "weights" / "tfjs_ssdlite_mobilenet_v2_coco.npz")
    maps = tuple((side, side) for side in (19, 10, 5, 3, 2, 1))
    anchors = default_boxes(box_shapes.tf_anchors(), maps, (1, 1)).numpy()
    parts = [golden[f"i{image}_{name}"][None] for name in ("loc", "cls")]
    config = PostprocessConfig(
        score_function="sigmoid", class_columns=tuple(range(1, 91)), pre_nms_top_k=None, nms_iou=0.6, max_per_class=100,
        max_detections=100, clip="after",
    )  # fmt: skip
    found = detect(parts, anchors, config, CoderConfig(order="yxhw"), (1, 1))
    assert found.counts.tolist() == [100]
    assert (found.class_ids[0] + 1).tolist() == golden[f"i{image}_det_classes"].tolist()
    np.testing.assert_allclose(found.scores[0], golden[f"i{image}_det_scores"], atol=5e-6)
    np.testing.assert_allclose(found.boxes_xyxy[0][:, [1, 0, 3, 2]], golden[f"i{image}_det_boxes"], atol=5e-6)


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("batch", [0, 1, 2, 7])
def test_threads_share_a_batch(batch: int, threads: int) -> None:
    parts, config = heads(5, batch), PostprocessConfig(score_threshold=0.3)
    alone = detect(parts, ANCHORS.numpy(), config, CoderConfig(), SIZE)
    shared = detect(parts, ANCHORS.numpy(), config, CoderConfig(), SIZE, threads=threads)
    for ours, theirs in zip(shared, alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)
