"""From raw heads to detections: softmax, threshold .01, decoding, NMS at .45, best 200. Batch 8, SSD300, 21 classes.

    python benchmarks/postprocess.py [--quick] [--peers SSD_PYTORCH_CHECKOUT] [--json FILE]

Three loads: about 840, 2,460 and 8,280 (anchor, class) pairs of an image above the threshold, on noise: few boxes
suppress each other, the hardest case. Before anything is timed, every contender of ours must find what the plain loop
finds. "Compiled" is the C that all backends run on a CPU where there is a compiler, on one thread; torch's form, and
with OpenVINO operators of its graph, take over where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import loads
from common import Measured, Settings, compare, main, take_turns
from peers import ssd_pytorch_checkout, ssd_pytorch_detect, torchvision_detect, torchvision_ssd
from reference_forms import Heads, detect_ssd_pytorch_form, detect_torchvision_form
from singleshot.core.postprocess import HeadGeometry
from singleshot.core.structures import HeadOutput
from singleshot.kernels.detect import detect, fits
from singleshot.multibox.decode import postprocess

LOADS = (840, 2460, 8280)
IN_GRAPH = "singleshot, OpenVINO graph"
COMPILED = "singleshot, compiled"
GOALS = {"singleshot, torch": 1.0, COMPILED: 2.0}
"""Torch ahead of every peer; the fastest backend twice as fast."""

Detect = Callable[[Tensor, Tensor], object]
Rows = list[NDArray[np.float32]]
"""Rows (class, score, x0, y0, x1, y1) of each image, best first."""

SETTINGS = loads.spec().postprocess.model_copy(update={"clip": "before"})
SIZE_HW = (loads.SIDE, loads.SIDE)
PAIR_WITHIN = 1e-3


def ours(codes: Tensor, logits: Tensor, anchors: Tensor) -> Rows:
    found = postprocess(HeadOutput(codes, logits), anchors, SETTINGS, loads.spec().coder, SIZE_HW)
    parts = zip(found.class_ids, found.scores, found.boxes_xyxy, found.counts.tolist(), strict=True)
    return [torch.cat((c[:n, None].float(), s[:n, None], b[:n]), 1).numpy() for c, s, b, n in parts]


def as_rows(boxes: NDArray[np.float32], scores: NDArray[np.float32], *rest: NDArray[np.int64]) -> Rows:
    """From padded arrays, see ``PaddedDetections``."""
    parts = zip(boxes, scores, *rest, strict=True)
    return [np.concatenate((c[:n, None].astype(np.float32), s[:n, None], b[:n]), 1) for b, s, c, n in parts]


def compiled(codes: Tensor, logits: Tensor, anchors: Tensor) -> Rows:
    return as_rows(*detect([codes.numpy(), logits.numpy()], anchors.numpy(), SETTINGS, loads.spec().coder, SIZE_HW))


def in_graph(anchors: Tensor, threads: int) -> Callable[[Tensor, Tensor], Rows]:
    """Decoding and NMS as the OpenVINO backend computes them without a C compiler."""
    from singleshot.export.graph_openvino import detection_model, finish_rows, thresholds
    from singleshot.export.openvino_core import openvino_core

    widths = (4, len(loads.CLASSES) + 1)
    geometry = HeadGeometry(anchors.numpy(), loads.spec().coder, SIZE_HW, len(loads.CLASSES))
    graph = detection_model(widths, geometry, SETTINGS)
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino_core().compile_model(graph, "CPU", config).create_infer_request()

    def run(codes: Tensor, logits: Tensor) -> Rows:
        request.infer([codes.numpy(), logits.numpy(), *thresholds(SETTINGS)], share_inputs=True)
        outputs = (tensor.data for tensor in request.output_tensors)
        return as_rows(*finish_rows(*outputs, SETTINGS, SIZE_HW))

    return run


def contenders(anchors: Tensor, settings: Settings) -> dict[str, Detect]:
    """Everybody's way from codes and logits to detections."""
    found: dict[str, Detect] = {"singleshot, torch": partial(ours, anchors=anchors)}
    if fits(SETTINGS):
        found[COMPILED] = partial(compiled, anchors=anchors)
    if find_spec("openvino"):
        found[IN_GRAPH] = in_graph(anchors, settings.threads)
    found["reference form, ssd.pytorch"] = lambda *heads: detect_ssd_pytorch_form(Heads(*heads), anchors)
    found["reference form, torchvision"] = lambda *heads: detect_torchvision_form(Heads(*heads), anchors, SIZE_HW)
    if model := torchvision_ssd(len(loads.CLASSES) + 1):
        found["torchvision"] = torchvision_detect(model, anchors, SIZE_HW)
    if folder := ssd_pytorch_checkout(settings.peers):
        found["ssd.pytorch"] = ssd_pytorch_detect(folder, anchors, len(loads.CLASSES) + 1, loads.SIDE)
    return found


def difference(found: Rows, expected: Rows) -> tuple[int, float]:
    """Detections that only one of two has, and the largest difference of the others' scores and boxes (pixels).

    Detections are paired by class and box, not by place: equal scores may come in any order.
    """
    strangers, largest = 0, 0.0
    for a, b in zip(found, expected, strict=True):
        apart = np.abs(a[:, None, 1:] - b[None, :, 1:]).max(axis=2, initial=0)
        apart[a[:, None, 0] != b[None, :, 0]] = np.inf
        same = apart < PAIR_WITHIN
        strangers += int((~same.any(axis=1)).sum() + (~same.any(axis=0)).sum())
        largest = max(largest, float(apart.min(axis=1, initial=np.inf, where=same)[same.any(axis=1)].max(initial=0)))
    return strangers, largest


def measure_load(candidates: int, settings: Settings) -> list[Measured]:
    """All contenders on one load."""
    generator = torch.Generator().manual_seed(0)
    batch = settings.choose(8, 8, 2)
    anchors = loads.anchors()
    codes, logits = loads.crowded_heads(batch, len(anchors), candidates, generator)
    count = int((logits.softmax(-1)[..., 1:] > SETTINGS.score_threshold).sum()) // batch
    found = contenders(anchors, settings)
    expected = [rows.numpy() for rows in found["reference form, torchvision"](codes, logits)]
    notes = {}
    for name in (name for name in found if name.startswith("singleshot")):
        strangers, largest = difference(found[name](codes, logits), expected)
        notes[name] = f"{strangers} detections differ from the plain loop's; others by {largest:.1e} at most"
    seconds = take_turns({name: partial(f, codes, logits) for name, f in found.items()}, settings.choose(11, 5, 1))
    return compare(f"postprocess, batch {batch}, {count:,} candidates", seconds, goals=GOALS, notes=notes)


def measure_row(settings: Settings) -> list[Measured]:
    """Seconds of a batch."""
    return [line for count in settings.choose(LOADS, LOADS, LOADS[:1]) for line in measure_load(count, settings)]


if __name__ == "__main__":
    main(__doc__, measure_row)
