from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from singleshot.core.boxes import xyxy_to_cxcywh
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.models.zoo import box_shapes
from singleshot.multibox import plain
from singleshot.multibox.anchors import default_boxes
from singleshot.multibox.coder import decode_boxes
from singleshot.multibox.decode import postprocess

SIZE = (60, 80)
ANCHORS = default_boxes(box_shapes.tf_anchors(levels=3), ((5, 5), (3, 3), (1, 1)), SIZE)
LOGIT = 4.0


def output(batch=2, seed=0, columns=5):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(batch, len(ANCHORS), 4, generator=generator)
    return HeadOutput(codes, torch.randn(batch, len(ANCHORS), columns, generator=generator) * 2)


def one_hot_logits(*rows):
    """Logits that make softmax give class ``c`` of an anchor nearly 1."""
    logits = torch.zeros(1, len(ANCHORS), 4)
    logits[..., 0] = 20.0
    for anchor, column in rows:
        logits[0, anchor] = torch.tensor([0.0, 0.0, 0.0, 0.0])
        logits[0, anchor, column] = 20.0
    return logits


def run(heads, **settings):
    return postprocess(heads, ANCHORS, PostprocessConfig(**settings), CoderConfig(), SIZE)


def test_no_detections():
    found = run(HeadOutput(torch.zeros(2, len(ANCHORS), 4), one_hot_logits().expand(2, -1, -1)), max_detections=7)
    assert found.counts.tolist() == [0, 0]
    assert found.boxes_xyxy.shape == (2, 7, 4)
    assert found.scores.eq(0).all()
    assert found.class_ids.eq(-1).all()
    assert found.class_ids.dtype == torch.int64


@pytest.mark.parametrize("nms", ["greedy", "none", "soft_linear", "soft_gaussian"])
def test_no_images_and_no_candidates(nms):
    empty = run(HeadOutput(torch.zeros(0, len(ANCHORS), 4), torch.zeros(0, len(ANCHORS), 4)), nms=nms)
    assert empty.boxes_xyxy.shape == (0, 200, 4)
    assert run(output(), nms=nms, score_threshold=1.0).counts.tolist() == [0, 0]


def test_a_detection_is_its_decoded_anchor():
    codes = torch.zeros(1, len(ANCHORS), 4)
    codes[0, 30] = torch.tensor([1.0, -1.0, 0.5, 0.0])
    found = run(HeadOutput(codes, one_hot_logits((30, 2))), clip="none")
    assert found.counts.tolist() == [1]
    assert found.class_ids[0, 0].item() == 1
    assert found.scores[0, 0].item() == pytest.approx(1.0)
    assert torch.equal(found.boxes_xyxy[0, 0], decode_boxes(codes[0, 30], ANCHORS[30]))


def test_class_columns_and_score_functions():
    heads = HeadOutput(torch.zeros(1, len(ANCHORS), 4), torch.full((1, len(ANCHORS), 4), -20.0))
    heads.class_logits[0, 7, 3] = 2.0
    heads.class_logits[0, 7, 1] = 5.0
    found = run(heads, score_function="sigmoid", class_columns=(3, 2))
    assert (found.counts.item(), found.class_ids[0, 0].item()) == (1, 0)
    assert found.scores[0, 0].item() == pytest.approx(torch.tensor(2.0).sigmoid().item())


@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0, 1e4, 1e6])
@pytest.mark.parametrize("threshold", [0.0, 1e-6, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("score_function", ["softmax", "sigmoid"])
@pytest.mark.parametrize("candidates", ["per_class", "best_class"])
@pytest.mark.parametrize("columns", [None, (0, 1, 2, 3, 4), (4, 1)])
def test_candidates_are_all_that_score_above_the_threshold(scale, threshold, score_function, candidates, columns):
    """They are looked for without exponentials first; none may get lost, however large the logits are."""
    heads = output()
    heads = heads._replace(class_logits=heads.class_logits * scale + scale)
    scores = heads.class_logits.softmax(-1) if score_function == "softmax" else heads.class_logits.sigmoid()
    chosen = scores[..., list(columns or range(1, 5))]
    chosen = chosen.amax(-1, keepdim=True) if candidates == "best_class" else chosen
    found = run(
        heads, nms="none", max_per_class=None, max_detections=10**4, pre_nms_top_k=None, score_threshold=threshold,
        score_function=score_function, candidates=candidates, class_columns=columns,
    )  # fmt: skip
    expected = [rows[rows > threshold].sort(descending=True).values for rows in chosen.flatten(1)]
    for row, count, wanted in zip(found.scores, found.counts.tolist(), expected, strict=True):
        assert row[:count].tolist() == wanted.tolist()


def test_num_classes_leaves_out_later_columns():
    heads = HeadOutput(torch.zeros(1, len(ANCHORS), 4), one_hot_logits((7, 3), (60, 1)))
    found = postprocess(heads, ANCHORS, PostprocessConfig(), CoderConfig(), SIZE, num_classes=2)
    assert found.class_ids[0, : int(found.counts)].tolist() == [0]


def test_best_class_gives_an_anchor_one_detection():
    heads = HeadOutput(torch.zeros(1, len(ANCHORS), 4), one_hot_logits())
    heads.class_logits[0, 7] = torch.tensor([0.0, 2.0, 3.0, 2.0])
    assert run(heads).counts.item() == 3
    found = run(heads, candidates="best_class")
    assert found.class_ids[0, : int(found.counts)].tolist() == [1]


@pytest.mark.parametrize("clip", ["none", "before", "after"])
def test_clipping(clip):
    heads = HeadOutput(torch.zeros(1, len(ANCHORS), 4), one_hot_logits((1, 1)))
    left = run(heads, clip=clip).boxes_xyxy[0, 0, 0].item()
    assert left == (pytest.approx(8 - 80 * 0.1 * 2**0.5) if clip == "none" else 0.0)


OPTIONS = [
    {},
    {"score_threshold": 0.2, "nms_iou": 0.3},
    {"pre_nms_top_k": 5},
    {"pre_nms_top_k": None, "nms_iou": 0.7},
    {"class_agnostic": True},
    {"class_agnostic": True, "pre_nms_top_k": 9, "max_per_class": 4},
    {"max_per_class": 2},
    {"max_detections": 6},
    {"nms": "none", "max_detections": 30},
    {"score_function": "sigmoid", "nms_compare": ">="},
    {"clip": "before"},
    {"clip": "none"},
    {"candidates": "best_class"},
    {"class_columns": (4, 1)},
]


def plain_detections(heads, config):
    """The same, image by image and class by class."""
    result = []
    for codes, logits in zip(*heads, strict=True):
        scores = logits.softmax(-1) if config.score_function == "softmax" else logits.sigmoid()
        columns = config.class_columns or tuple(range(1, logits.shape[1]))
        scores = scores[:, list(columns)]
        boxes = decode_boxes(codes, ANCHORS)
        if config.clip == "before":
            boxes = boxes.clamp(min=0).minimum(torch.tensor([80.0, 60.0, 80.0, 60.0]))
        rows = [
            (a, c) for a in range(len(ANCHORS)) for c in range(len(columns)) if scores[a, c] > config.score_threshold
        ]
        if config.candidates == "best_class":
            rows = [(a, c) for a, c in rows if c == int(scores[a].argmax())]
        kept = []
        for group in [range(len(columns))] if config.class_agnostic else [[c] for c in range(len(columns))]:
            part = sorted((r for r in rows if r[1] in group), key=lambda r: -scores[r])[: config.pre_nms_top_k]
            if config.nms == "greedy":
                found = [boxes[a].tolist() for a, _ in part]
                values = [scores[r].item() for r in part]
                chosen = plain.nms(found, values, [0] * len(part), config.nms_iou, config.nms_compare)
                part = [part[i] for i in chosen]
            kept += part[: config.max_per_class]
        kept = sorted(kept, key=lambda r: -scores[r])[: config.max_detections]
        result.append([(c, scores[a, c].item(), boxes[a]) for a, c in kept])
    return result


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_the_plain_reading(options):
    heads = output(seed=len(str(options)))
    found = run(heads, **options)
    config = PostprocessConfig(**options)
    for b, expected in enumerate(plain_detections(heads, config)):
        count = int(found.counts[b])
        assert count == len(expected) > 0
        assert found.class_ids[b, :count].tolist() == [c for c, _, _ in expected]
        assert found.scores[b, :count].tolist() == pytest.approx([score for _, score, _ in expected], abs=1e-6)
        boxes = torch.stack([box for _, _, box in expected])
        if config.clip == "after":
            boxes = boxes.clamp(min=0).minimum(torch.tensor([80.0, 60.0, 80.0, 60.0]))
        assert torch.allclose(found.boxes_xyxy[b, :count], boxes, atol=1e-4)


def test_soft_nms_keeps_what_greedy_suppresses_with_less_score():
    heads = output(seed=4)
    soft = run(heads, nms="soft_gaussian", score_threshold=0.05, pre_nms_top_k=20, max_detections=90)
    hard = run(heads, nms="greedy", score_threshold=0.05, pre_nms_top_k=20, max_detections=90)
    assert (soft.counts > hard.counts).all()
    assert (soft.scores.diff(dim=1) <= 0).all()
    assert torch.equal(soft.boxes_xyxy[:, 0], hard.boxes_xyxy[:, 0])


def test_refinedet_decodes_twice_and_drops_what_is_not_an_object():
    codes, logits = torch.zeros(1, len(ANCHORS), 4), one_hot_logits((30, 2), (60, 1))
    codes[0, 30] = torch.tensor([1.0, 0.0, 0.0, 0.5])
    arm_codes = torch.randn(1, len(ANCHORS), 4, generator=torch.Generator().manual_seed(0))
    arm_logits = torch.zeros(1, len(ANCHORS), 2)
    arm_logits[0, 60] = torch.tensor([5.0, 0.0])
    heads = RefineOutput(codes, logits, arm_codes, arm_logits)
    found = run(heads, clip="none")
    refined = xyxy_to_cxcywh(decode_boxes(arm_codes[0, 30], ANCHORS[30]))
    assert (found.counts.item(), found.class_ids[0, 0].item()) == (1, 1)
    assert torch.equal(found.boxes_xyxy[0, 0], decode_boxes(codes[0, 30], refined))
    assert run(heads, min_objectness=0.001).counts.item() == 2


@pytest.mark.parametrize("image", [0, 1, 2])
def test_detections_of_the_real_tensorflow_model(image: int, reference: Path):
    golden = np.load(reference / "golden" / "weights" / "tfjs_ssdlite_mobilenet_v2_coco.npz")
    maps = tuple((side, side) for side in (19, 10, 5, 3, 2, 1))
    anchors = default_boxes(box_shapes.tf_anchors(), maps, (1, 1))
    heads = HeadOutput(*(torch.from_numpy(golden[f"i{image}_{name}"])[None] for name in ("loc", "cls")))
    config = PostprocessConfig(
        score_function="sigmoid", class_columns=tuple(range(1, 91)), pre_nms_top_k=None, nms_iou=0.6, max_per_class=100,
        max_detections=100, clip="after",
    )  # fmt: skip
    found = postprocess(heads, anchors, config, CoderConfig(order="yxhw"), (1, 1))
    assert found.counts.tolist() == [100]
    assert (found.class_ids[0] + 1).tolist() == golden[f"i{image}_det_classes"].tolist()
    np.testing.assert_allclose(found.scores[0].numpy(), golden[f"i{image}_det_scores"], atol=5e-6)
    np.testing.assert_allclose(found.boxes_xyxy[0, :, [1, 0, 3, 2]].numpy(), golden[f"i{image}_det_boxes"], atol=5e-6)


@pytest.mark.parametrize("image", [0, 1, 2])
def test_detections_of_the_real_caffe_model(image: int, reference: Path):
    golden = np.load(reference / "golden" / "weights" / "caffe_res10_face.npz")
    anchors = xyxy_to_cxcywh(torch.from_numpy(golden["priors"]))
    heads = HeadOutput(*(torch.from_numpy(golden[f"i{image}_mbox_{name}"])[None] for name in ("loc", "conf")))
    found = postprocess(heads, anchors, PostprocessConfig(clip="none"), CoderConfig(), (1, 1))
    theirs = golden[f"i{image}_det"]
    assert found.counts.tolist() == [len(theirs)]
    np.testing.assert_allclose(found.scores[0, : len(theirs)].numpy(), theirs[:, 2], atol=1e-5)
    ours = {tuple(box) for box in found.boxes_xyxy[0, : len(theirs)].mul(1e4).round().tolist()}
    near = sum(
        any(max(abs(a - b) for a, b in zip(box, other, strict=True)) <= 1 for other in ours)
        for box in (theirs[:, 3:] * 1e4).round().tolist()
    )
    assert near == len(theirs)
