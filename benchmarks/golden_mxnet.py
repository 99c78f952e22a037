"""Run recorded cases of real MXNet operators against ``singleshot.interop.mxnet.operators`` and print a table.

    python benchmarks/golden_mxnet.py FOLDER

FOLDER holds one npz per operator, with arrays ``cNNN__params`` (JSON), ``cNNN__in__X`` and ``cNNN__out__Y``, or
``cNNN__error`` where MXNet refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common import Measured, NotAvailableError, Settings
from singleshot.interop.mxnet import operators as mxnet

Outputs = dict[str, Tensor]
EXACT = {"cls_target", "loc_mask", "row", "col", "class_ids"}
"""Outputs that are whole numbers or copies of labels."""


class Case(NamedTuple):
    operator: str
    name: str
    tag: str
    params: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: Outputs
    refused: bool


class Outcome(NamedTuple):
    passed: bool
    error: float
    """Largest difference, of values above 1 relative."""


def read_cases(path: Path) -> Iterator[Case]:
    """All cases of one operator's npz."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    for name in sorted({key.split("__")[0] for key in arrays}):
        parts: dict[str, dict[str, Tensor]] = {
            side: {
                key.split("__")[2]: torch.from_numpy(value)
                for key, value in arrays.items()
                if key.startswith(f"{name}__{side}__")
            }
            for side in ("in", "out")
        }
        params, tag = json.loads(str(arrays[f"{name}__params"])), str(arrays[f"{name}__tag"])
        yield Case(path.stem, name, tag, params, parts["in"], parts["out"], f"{name}__error" in arrays)


def with_gradient(operator: Callable[..., Tensor]) -> Callable[..., Outputs]:
    def run(data: Tensor, *others: Tensor, head_grad: Tensor | None = None, **params: Any) -> Outputs:
        data.requires_grad_()
        out = operator(data, *others, **params)
        out.backward(torch.ones_like(out) if head_grad is None else head_grad)
        assert data.grad is not None
        return {"out": out.detach(), "grad_data": data.grad}

    return run


def softmax_output(data: Tensor, label: Tensor, **params: Any) -> Outputs:
    return with_gradient(mxnet.softmax_output)(data, label, **params)


def target(anchor: Tensor, label: Tensor, cls_pred: Tensor, **params: Any) -> Outputs:
    names = ("loc_target", "loc_mask", "cls_target")
    return dict(zip(names, mxnet.multibox_target(anchor, label, cls_pred, **params), strict=True))


def matching(data: Tensor, **params: Any) -> Outputs:
    return dict(zip(("row", "col"), mxnet.bipartite_matching(data, **params), strict=True))


def head_loss(
    anchor: Tensor, label: Tensor, cls_pred: Tensor, loc_pred: Tensor, loc_grad_scale: float, valid_thresh: float = 0.0
) -> Outputs:
    """The training head of mxnet-ssd."""
    cls_pred.requires_grad_()
    loc_pred.requires_grad_()
    goal, mask, classes = mxnet.multibox_target(anchor, label, cls_pred, negative_mining_ratio=3.0)
    cls_prob = mxnet.softmax_output(cls_pred, classes, use_ignore=True, multi_output=True, normalization="valid")
    loc_loss = mxnet.make_loss(
        mxnet.smooth_l1(mask * (loc_pred - goal), 1.0), loc_grad_scale, valid_thresh, normalization="valid"
    )
    torch.autograd.backward([cls_prob, loc_loss], [torch.ones_like(cls_prob), torch.ones_like(loc_loss)])
    assert cls_pred.grad is not None
    assert loc_pred.grad is not None
    return {
        "loc_target": goal, "loc_mask": mask, "cls_target": classes, "cls_prob": cls_prob.detach(),
        "loc_loss": loc_loss.detach(), "grad_cls_pred": cls_pred.grad, "grad_loc_pred": loc_pred.grad,
    }  # fmt: skip


OPERATORS: dict[str, Callable[..., Outputs]] = {
    "MultiBoxPrior": lambda **arguments: {"anchors": mxnet.multibox_prior(**arguments)},
    "MultiBoxTarget": target,
    "MultiBoxDetection": lambda **arguments: {"out": mxnet.multibox_detection(**arguments)},
    "L2Normalization": with_gradient(mxnet.l2_normalization),
    "smooth_l1": with_gradient(mxnet.smooth_l1),
    "SoftmaxOutput": softmax_output,
    "ssd_head_loss": head_loss,
    "box_iou": lambda **arguments: {"out": mxnet.box_iou(**arguments)},
    "box_nms": lambda **arguments: {"out": mxnet.box_nms(**arguments)},
    "bipartite_matching": matching,
}


def run_case(case: Case, tolerance: float = 1e-5) -> Outcome:
    """Compare one case; a refused one passes if ours raises ``ValueError``."""
    try:
        ours = OPERATORS[case.operator](**case.inputs, **case.params)
    except ValueError:
        return Outcome(case.refused, 0.0 if case.refused else float("inf"))
    if case.refused:
        return Outcome(False, float("inf"))
    if "ulp-fragile" in case.tag:
        return _same_negatives(case, ours)
    errors = {name: _difference(ours[name], theirs) for name, theirs in case.outputs.items()}
    if case.operator == "MultiBoxDetection":
        errors["class_ids"] = _difference(ours["out"][..., 0], case.outputs["out"][..., 0])
    passed = all(error <= (0.0 if name in EXACT else tolerance) for name, error in errors.items())
    return Outcome(passed, max(errors.values(), default=0.0))


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, of values above 1 relative; infinities and NaN must be in the same places."""
    if ours.shape != theirs.shape:
        return float("inf")
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    apart = (ours.double() - theirs.double()).abs() / theirs.double().abs().clamp(min=1)
    apart = torch.where(same, 0.0, apart).nan_to_num(nan=float("inf"))
    return float(apart.max()) if apart.numel() else 0.0


def _same_negatives(case: Case, ours: Outputs) -> Outcome:
    """Mining among equal logits: as many negatives, and of the same probabilities, as MXNet chose."""
    background = case.inputs["cls_pred"].softmax(dim=1)[:, 0]
    chosen = [torch.where(out["cls_target"] == 0, background, 2.0).sort(dim=1).values for out in (ours, case.outputs)]
    error = max(
        _difference(chosen[0], chosen[1]),
        *(_difference(ours[name], case.outputs[name]) for name in ("loc_target", "loc_mask")),
    )
    return Outcome(error <= 1e-5, error)


def measure_row(settings: Settings) -> list[Measured]:
    """How many recorded cases of each MXNet operator ours reproduces, for ``run.py``."""
    folder = settings.reference / "golden/mxnet" if settings.reference else None
    if folder is None or not folder.is_dir():
        raise NotAvailableError("it needs the recorded cases: --reference FOLDER")
    lines = []
    for operator in OPERATORS:
        outcomes = [run_case(case) for case in read_cases(folder / f"{operator}.npz")]
        note = f"largest difference {max((outcome.error for outcome in outcomes), default=0.0):.1e}"
        unit = f"of {len(outcomes)} cases"
        passed = sum(outcome.passed for outcome in outcomes)
        lines.append(Measured("equal to MXNet 1.9.1", f"singleshot {operator}", passed, unit, 0.0, note=note))
    return lines


def main(folder: Path) -> int:
    failed = 0
    print(f"{'operator':<22}{'cases':>6}{'passed':>8}{'max error':>12}")
    for operator in OPERATORS:
        outcomes = {case.name: run_case(case) for case in read_cases(folder / f"{operator}.npz")}
        passed = sum(outcome.passed for outcome in outcomes.values())
        worst = max((outcome.error for outcome in outcomes.values()), default=0.0)
        print(f"{operator:<22}{len(outcomes):>6}{passed:>8}{worst:>12.1e}")
        bad = [name for name, outcome in outcomes.items() if not outcome.passed]
        if bad:
            print(f"  failed: {', '.join(bad)}")
        failed += len(bad)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
