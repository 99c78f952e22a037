"""From heads to boxes, the contract of ``core.postprocess``: every form on the same cases, against plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from singleshot.core.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from singleshot.core.postprocess import Form, HeadGeometry, Heads, PaddedArrays, PaddedDetections, class_columns
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.core.structures import HeadOutput, RefineOutput
from singleshot.export import graph_onnx, graph_torch
from singleshot.export.info import HEADS
from singleshot.export.onnx_nodes import Nodes, make_model
from singleshot.export.openvino_core import openvino_core
from singleshot.interop.mxnet.operators import multibox_detection
from singleshot.kernels.detect import CompiledForm, is_compiled
from singleshot.multibox.coder import CODER, decode_boxes
from singleshot.multibox.scores import class_scores
from singleshot.runtime.numpy_form import NumpyForm
from singleshot.runtime.postprocess import TorchForm

SIZE = (60, 80)
WIDTH = 6
ANCHORS = np.float32([[x, y, 16, 12] for x in range(8, 80, 12) for y in range(6, 60, 9)])
GRID = np.float32([[x, y, 8, 8] for x in range(4, 60, 4) for y in range(4, 24, 4)])
"""Anchors whose overlaps are simple fractions."""


def noise(*widths: int, batch: int = 3, anchors: int = len(ANCHORS)) -> Heads:
    rng = np.random.default_rng(sum(widths))
    return [rng.normal(0, 2, (batch, anchors, width)).astype(np.float32) for width in widths]


def coarse(width: int) -> Heads:
    """Few different numbers: equal scores, overlaps exactly at a threshold."""
    rng = np.random.default_rng(width)
    codes = np.zeros((2, len(GRID), 4), dtype=np.float32)
    codes[..., :2] = rng.integers(-2, 3, (2, len(GRID), 2))
    return [codes, rng.integers(-4, 5, (2, len(GRID), width)).astype(np.float32)]


@dataclass(frozen=True)
class Case:
    """Heads and settings.

    Attributes:
        name: what is looked at.
        settings: of ``PostprocessConfig``.
        heads: raw.
        unfit: forms that do not offer it; ``None`` believes what they say.
        ties: whether scores are equal.
    """

    name: str
    settings: dict[str, Any]
    heads: Heads = field(default_factory=lambda: noise(4, WIDTH))
    unfit: str | None = ""
    anchors: np.ndarray = field(default_factory=lambda: ANCHORS)
    coder: CoderConfig = CODER
    num_classes: int | None = None
    ties: bool = False

    @property
    def config(self) -> PostprocessConfig:
        return PostprocessConfig(**{"score_threshold": 0.1, **self.settings})

    @property
    def geometry(self) -> HeadGeometry:
        return HeadGeometry(self.anchors, self.coder, SIZE, self.num_classes)


MXNET = {"candidates": "best_class", "top_k_scope": "image", "nms_compare": ">=", "clip": "before"}
AGNOSTIC = {"class_agnostic": True}
ALL = {"score_threshold": 0.0, "max_detections": 1000}
SIGMOIDS = {"score_function": "sigmoid", **ALL}
EIGHTHS = CoderConfig(variances=(0.125, 0.125, 1, 1))
TIES = {"heads": coarse(4), "anchors": GRID, "coder": EIGHTHS, "ties": True}
ONNX = "openvino onnx read"
SOFT = f"numpy compiled graph {ONNX} mxnet"
REFINED = noise(4, WIDTH, 4, 2)

CASES = [
    Case("no image", {}, noise(4, WIDTH, batch=0), "mxnet"),
    Case("no image, as MXNet", MXNET, noise(4, WIDTH, batch=0)),
    Case("no candidate", {"score_threshold": 1.0}, unfit="mxnet"),
    Case("no candidate, as MXNet", {**MXNET, "score_threshold": 1.0}),
    Case("one anchor", {}, noise(4, WIDTH, anchors=1), "mxnet", ANCHORS[:1]),
    Case("all candidates", ALL, unfit="mxnet"),
    Case("all candidates, as MXNet", {**ALL, **MXNET}),
    Case("all candidates, all kept", {**ALL, "nms": "none"}, unfit="mxnet openvino"),
    Case("a higher threshold, a lower overlap", {"score_threshold": 0.2, "nms_iou": 0.3}, unfit="mxnet"),
    Case("all enter NMS", {"pre_nms_top_k": None, "nms_iou": 0.7}, unfit="mxnet"),
    Case("no NMS, few kept", {"nms": "none", "max_detections": 30}, unfit="mxnet openvino"),
    Case("softmax", {"score_threshold": 0.3}, unfit="mxnet"),
    Case("sigmoid", {"score_function": "sigmoid", "score_threshold": 0.3}, unfit="mxnet"),
    Case("sigmoid, as MXNet", {**MXNET, "score_function": "sigmoid"}),
    Case("one class", {}, noise(4, 2), "mxnet"),
    Case("one class, one column", {"class_columns": (0,), "score_function": "sigmoid"}, noise(4, 1), "mxnet"),
    Case("chosen columns", {"class_columns": (4, 1)}, unfit="mxnet"),
    Case("all columns", {"class_columns": (0, 1, 2, 3, 4, 5)}, unfit="mxnet"),
    Case("chosen columns, as MXNet", {**MXNET, "class_columns": (4, 1)}),
    Case("fewer classes than columns", {}, unfit="mxnet", num_classes=3),
    Case("best class of an anchor", {"candidates": "best_class"}, unfit="mxnet"),
    Case("classes as one", AGNOSTIC, unfit=f"{ONNX} mxnet"),
    Case("classes as one, best class", {**AGNOSTIC, "candidates": "best_class"}, unfit="mxnet"),
    Case("classes as one, as MXNet", {**MXNET, **AGNOSTIC}),
    Case("classes as one, limited", {**AGNOSTIC, "pre_nms_top_k": 9, "max_per_class": 4}, unfit=f"{ONNX} mxnet"),
    Case("few enter NMS", {"pre_nms_top_k": 5}, unfit="mxnet"),
    Case("few of an image enter NMS", {"pre_nms_top_k": 9, "top_k_scope": "image"}, unfit="mxnet"),
    Case("few enter NMS, as MXNet", {**MXNET, "pre_nms_top_k": 9}),
    Case("few of a class are kept", {"max_per_class": 2}, unfit="mxnet"),
    Case("few of an image are kept", {"max_detections": 6}, unfit="mxnet"),
    Case("not clipped", {"clip": "none"}, unfit="mxnet"),
    Case("clipped before NMS", {"clip": "before"}, unfit="mxnet"),
    Case("clipped after NMS", {"clip": "after"}, unfit="mxnet"),
    Case("a larger union", {"nms_union_eps": 0.02}, unfit=f"{ONNX} mxnet"),
    Case("TensorFlow's codes", {}, unfit="mxnet", coder=CoderConfig(order="yxhw", variances=(0.1, 0.2, 0.3, 0.4))),
    Case("two steps", {}, REFINED, "mxnet"),
    Case("two steps, objects only", {"min_objectness": 0.6, **ALL}, REFINED, "mxnet"),
    Case("ties", {"nms": "none", **SIGMOIDS}, unfit="mxnet openvino", **TIES),
    Case("overlap at the threshold", {"nms_iou": 1 / 3, **SIGMOIDS}, unfit="mxnet", **TIES),
    Case("the same, suppressed", {"nms_iou": 1 / 3, "nms_compare": ">=", **SIGMOIDS}, unfit="mxnet", **TIES),
    Case("ties, as MXNet", {**SIGMOIDS, **MXNET}, **TIES),
    Case("linear soft-NMS", {"nms": "soft_linear"}, unfit=SOFT),
    Case("gaussian soft-NMS", {"nms": "soft_gaussian", "max_per_class": 9}, unfit=SOFT),
    *(
        Case(f"{scope} {top_k} {candidates} {agnostic} {nms} {eps}", {
            "top_k_scope": scope, "pre_nms_top_k": top_k, "candidates": candidates, "class_agnostic": agnostic,
            "nms": nms, "nms_union_eps": eps, "nms_iou": 0.3, "max_detections": 400,
        }, unfit=None)
        for scope, top_k, candidates, agnostic, nms, eps in itertools.product(
            ("image",), (1, 9, None), ("per_class", "best_class"), (False, True), ("greedy", "none"), (0.0, 0.02)
        )
    ),
]  # fmt: skip


def as_output(heads: Heads) -> HeadOutput | RefineOutput:
    tensors = [torch.from_numpy(head) for head in heads]
    return HeadOutput(*tensors) if len(tensors) == 2 else RefineOutput(*tensors)


class GraphForm(NamedTuple):
    """``postprocess_static``, outside a graph. Which of equal scores comes first is torch.topk's choice."""

    geometry: HeadGeometry
    orders_ties = False

    def fits(self, settings: PostprocessConfig) -> bool:
        return graph_torch.fits(settings)

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        anchors, *rest = self.geometry
        found = graph_torch.postprocess_static(as_output(heads), torch.from_numpy(anchors), settings, *rest)
        return PaddedDetections(*(tensor.numpy() for tensor in found))


class MxnetForm(NamedTuple):
    """``MultiBoxDetection``: takes probabilities and fractions of the image, gives rows in place of a padded record."""

    geometry: HeadGeometry
    orders_ties = True

    def fits(self, settings: PostprocessConfig) -> bool:
        """One best class an anchor, counted over the image, suppressed from the threshold on, clipped before or not."""
        asked = settings.candidates, settings.nms, settings.nms_compare, settings.nms_union_eps, settings.max_per_class
        image = settings.top_k_scope == "image" or settings.pre_nms_top_k is None
        return asked == ("best_class", "greedy", ">=", 0, None) and image and settings.clip != "after"

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        anchors, coder, size_hw, num_classes = self.geometry
        if not self.fits(settings) or len(heads) > 2:
            raise ValueError("MultiBoxDetection has no such setting")
        scores = class_scores(as_output(heads), settings)
        columns = class_columns(scores.shape[2], settings, num_classes)
        probabilities = torch.cat([torch.zeros_like(scores[..., :1]), scores[..., list(columns)]], dim=-1)
        side = torch.tensor(size_hw[::-1] * 2, dtype=torch.float32)
        rows = multibox_detection(
            probabilities.transpose(1, 2),
            torch.from_numpy(heads[0]).flatten(1),
            (cxcywh_to_xyxy(torch.from_numpy(anchors)) / side)[None],
            clip=settings.clip == "before",
            threshold=math.nextafter(settings.score_threshold, 2),  # it takes scores of at least that
            nms_threshold=settings.nms_iou,
            force_suppress=settings.class_agnostic,
            variances=coder.variances,
            nms_topk=settings.pre_nms_top_k or -1,
        )
        own = [image[image[:, 0] >= 0][: settings.max_detections] for image in rows]
        size = (len(own), max(map(len, own), default=0))
        boxes, best, ids = np.zeros((*size, 4), np.float32), np.zeros(size, np.float32), np.full(size, -1)
        for b, image in enumerate(own):
            ids[b, : len(image)], best[b, : len(image)] = image[:, 0].numpy(), image[:, 1].numpy()
            boxes[b, : len(image)] = (image[:, 2:] * side).numpy()
        return PaddedDetections(boxes, best, ids, np.array([len(image) for image in own], dtype=np.int64))


def compiled(geometry: HeadGeometry) -> Form:
    if not is_compiled():
        pytest.skip("no C compiler here")
    return CompiledForm(geometry, threads=2)


def openvino(geometry: HeadGeometry) -> Form:
    if not find_spec("openvino"):
        pytest.skip("openvino is not installed")
    from singleshot.export.graph_openvino import OpenVinoForm

    return OpenVinoForm(geometry)


class OnnxForm(NamedTuple):
    """The nodes of an ONNX file of the level end2end, run by ONNX Runtime or OpenVINO."""

    geometry: HeadGeometry
    runtime: str = "onnx"
    orders_ties = False

    def fits(self, settings: PostprocessConfig) -> bool:
        return graph_onnx.refusal(settings) is None

    def __call__(self, heads: Heads, settings: PostprocessConfig) -> PaddedArrays:
        if reason := graph_onnx.refusal(settings):
            raise ValueError(f"ONNX cannot: {reason}")
        graph, width = Nodes("test"), heads[1].shape[2]
        decoded = graph_onnx.decoded_nodes(graph, HEADS[: len(heads)], width, self.geometry, settings, by_class=True)
        anchors, classes = len(self.geometry.anchors_cxcywh), len(class_columns(width, settings, self.geometry[3]))
        at = self.runtime == "openvino"
        found = graph_onnx.detection_nodes(graph, decoded, classes, self.geometry, settings, at)
        ends = [(name, np.float32, ("batch", anchors, head.shape[2])) for name, head in zip(HEADS, heads, strict=False)]
        outputs = [
            (name, dtype, ("batch", "detections", 4)[: 3 if k == 0 else 2 if k < 3 else 1])
            for k, (name, dtype) in enumerate(zip(found, (np.float32, np.float32, np.int64, np.int64), strict=True))
        ]
        model = make_model(graph.nodes, graph.constants, ends, outputs)
        if not at:
            onnx.checker.check_model(model, full_check=True)
        content = model.SerializeToString()
        if at:
            compiled = openvino_core().compile_model(
                openvino_core().read_model(content), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
            )
            return PaddedDetections(*(array.copy() for array in compiled(heads).values()))
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return PaddedDetections(*session.run(None, dict(zip(HEADS, heads, strict=False))))


FORMS: dict[str, Callable[[HeadGeometry], Form]] = {
    "torch": TorchForm,
    "numpy": NumpyForm,
    "compiled": compiled,
    "graph": GraphForm,
    "openvino": openvino,
    "onnx": OnnxForm,
    "read": lambda geometry: OnnxForm(geometry, "openvino"),
    "mxnet": MxnetForm,
}


class Row(NamedTuple):
    class_id: int
    score: float
    box: list[float]
    place: int = 0  # in the order of anchors, then columns


def clipped(box: Sequence[float]) -> list[float]:
    return [min(max(value, 0.0), side) for value, side in zip(box, (SIZE[1], SIZE[0]) * 2, strict=True)]


def iou(a: Sequence[float], b: Sequence[float], eps: float) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = sum(max(box[2] - box[0], 0) * max(box[3] - box[1], 0) for box in (a, b))
    return float(np.float32(both / max(areas - both + eps, 1e-30)))


def suppress(rows: list[Row], config: PostprocessConfig, eps: float) -> list[Row]:
    """What is left of a group, best first."""
    if config.nms == "none":
        return rows
    left, kept = list(rows), []
    least = np.float32(config.nms_iou)
    while left:
        best = max(left, key=lambda row: row.score)  # the first of equal ones
        left.remove(best)
        kept.append(best)
        overlaps = [iou(best.box, row.box, eps) for row in left]
        if config.nms == "greedy":
            gone = [o > least or (config.nms_compare == ">=" and o == least) for o in overlaps]
            left = [row for row, out in zip(left, gone, strict=True) if not out]
        else:
            falls = [
                math.exp(-o * o / config.soft_nms_sigma) if config.nms == "soft_gaussian" else 1 - o * (o > least)
                for o in overlaps
            ]
            left = [row._replace(score=row.score * fall) for row, fall in zip(left, falls, strict=True)]
            left = [row for row in left if row.score > config.score_threshold]
    return kept


@cache
def plainly(name: str) -> list[list[Row]]:
    """Rows of each image, best first: rules 1 to 8 as loops."""
    case = next(case for case in CASES if case.name == name)
    config, output = case.config, as_output(case.heads)
    columns = class_columns(output.class_logits.shape[2], config, case.num_classes)
    eps = config.nms_union_eps * SIZE[0] * SIZE[1]
    anchors = torch.from_numpy(case.anchors)
    result = []
    for b, scores in enumerate(class_scores(output, config).tolist()):
        origin = anchors
        if isinstance(output, RefineOutput):
            origin = xyxy_to_cxcywh(decode_boxes(output.arm_box_codes[b], anchors, case.coder))
        boxes = decode_boxes(output.box_codes[b], origin, case.coder).tolist()
        boxes = [clipped(box) for box in boxes] if config.clip == "before" else boxes
        pairs = []
        for a, of_anchor in enumerate(scores):
            own = [of_anchor[column] for column in columns]
            for column in sorted(columns):
                c = columns.index(column)
                if own[c] > config.score_threshold and (config.candidates == "per_class" or c == own.index(max(own))):
                    pairs.append(Row(c, own[c], boxes[a], len(pairs)))
        pairs.sort(key=lambda row: -row.score)
        if config.top_k_scope == "image":
            pairs = pairs[: config.pre_nms_top_k]
        groups = (
            [pairs] if config.class_agnostic else [[r for r in pairs if r.class_id == c] for c in range(len(columns))]
        )
        kept = []
        for group in groups:
            kept += suppress(group[: config.pre_nms_top_k], config, eps)[: config.max_per_class]
        kept = sorted(kept, key=lambda row: (-row.score, row.place))[: config.max_detections]
        result.append([row._replace(box=clipped(row.box)) if config.clip == "after" else row for row in kept])
    return result


def as_rows(found: PaddedArrays) -> list[list[Row]]:
    parts = zip(found.class_ids.tolist(), found.scores.tolist(), found.boxes_xyxy.tolist(), found.counts, strict=True)
    return [list(map(Row, ids[:n], scores[:n], boxes[:n])) for ids, scores, boxes, n in parts]


def in_any_order(row: Row) -> tuple[object, ...]:
    """A key that has the same order however ties were broken."""
    return -round(row.score, 5), row.class_id, row.box


# OpenVINO takes long to compile what it reads of the ONNX nodes: one case for each rule.
READ = {
    "no image", "softmax", "chosen columns", "classes as one, best class", "few enter NMS", "few enter NMS, as MXNet",
    "few of a class are kept", "two steps", "overlap at the threshold", "the same, suppressed", "a larger union",
}  # fmt: skip
PAIRS = [(case, form) for case in CASES for form in FORMS if form != "read" or case.name in READ]


@pytest.mark.parametrize(("case", "form"), PAIRS, ids=[f"{case.name}-{form}" for case, form in PAIRS])
def test_every_form_follows_the_rules(case: Case, form: str) -> None:
    run = FORMS[form](case.geometry)
    fits = run.fits(case.config) and not (form == "mxnet" and len(case.heads) > 2)
    if case.unfit is not None:
        assert fits == (form not in case.unfit.split())
    if not fits:
        with pytest.raises(ValueError, match=r"fits|cannot|no such setting"):
            run(case.heads, case.config)
        return
    found = run(case.heads, case.config)
    assert [array.dtype for array in found] == [np.float32, np.float32, np.int64, np.int64]
    for b, count in enumerate(found.counts):
        assert (found.class_ids[b, count:] == -1).all()
        assert not found.scores[b, count:].any()
        assert not found.boxes_xyxy[b, count:].any()
    ours, theirs = as_rows(found), plainly(case.name)
    if case.ties and not run.orders_ties:
        if case.config.nms != "none":  # which of equal boxes survives is open, and with it how many
            assert [rows[0].score for rows in ours] == pytest.approx([rows[0].score for rows in theirs])
            return
        ours, theirs = ([sorted(rows, key=in_any_order) for rows in image] for image in (ours, theirs))
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    for mine, plain in zip(ours, theirs, strict=True):
        assert [row.class_id for row in mine] == [row.class_id for row in plain]
        np.testing.assert_allclose([row.score for row in mine], [row.score for row in plain], rtol=0, atol=2e-6)
        np.testing.assert_allclose(
            np.array([row.box for row in mine]).reshape(-1, 4), np.array([row.box for row in plain]).reshape(-1, 4),
            rtol=1e-5, atol=1e-4,
        )  # fmt: skip


def test_cases_find_something() -> None:
    empty = {case.name for case in CASES if not any(plainly(case.name))}
    assert {name for name in empty if not name.startswith("no ")} == set()


LITERAL = {
    "boxes apart": ([(20, 2.0), (60, 1.0)], {}, [(20, 0.8808), (60, 0.7311)]),
    "one suppresses the other": ([(20, 2.0), (22, 1.0)], {}, [(20, 0.8808)]),
    "exactly at the threshold": ([(20, 2.0), (25, 1.0)], {"nms_iou": 1 / 3}, [(20, 0.8808), (25, 0.7311)]),
    "exactly at it, suppressed": ([(20, 2.0), (25, 1.0)], {"nms_iou": 1 / 3, "nms_compare": ">="}, [(20, 0.8808)]),
    "a score at the threshold": ([(20, 2.0), (60, 0.0)], {"score_threshold": 0.5}, [(20, 0.8808)]),
}


@pytest.mark.parametrize("form", [name for name in FORMS if name not in ("mxnet", "read")])
@pytest.mark.parametrize("name", LITERAL)
def test_literally(name: str, form: str) -> None:
    """Anchors of 10 x 10 at some x; the sigmoid of their logits."""
    anchors, settings, expected = LITERAL[name]
    geometry = HeadGeometry(np.float32([[x, 30, 10, 10] for x, _ in anchors]), CoderConfig(), SIZE)
    logits = np.float32([[[-30, logit] for _, logit in anchors]])
    config = PostprocessConfig(score_function="sigmoid", **settings)
    ((rows),) = as_rows(FORMS[form](geometry)([np.zeros((1, len(anchors), 4), np.float32), logits], config))
    assert [(row.class_id, round(row.score, 4), row.box) for row in rows] == [
        (0, score, [x - 5, 25, x + 5, 35]) for x, score in expected
    ]
