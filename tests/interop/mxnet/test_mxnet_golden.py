"""Every recorded case of the real operators."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "golden_mxnet.py"
CASES = {
    "MultiBoxPrior": 44, "MultiBoxTarget": 53, "MultiBoxDetection": 42, "L2Normalization": 23, "smooth_l1": 10,
    "SoftmaxOutput": 16, "ssd_head_loss": 7, "box_iou": 4, "box_nms": 10, "bipartite_matching": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    sys.path.insert(0, str(SCRIPT.parent))  # for what the scripts share
    spec = importlib.util.spec_from_file_location("golden_mxnet", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["golden_mxnet"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("operator", CASES)
def test_recorded_cases(operator: str, golden: ModuleType, reference: Path) -> None:
    cases = list(golden.read_cases(reference / "golden" / "mxnet" / f"{operator}.npz"))
    assert len(cases) == CASES[operator]
    outcomes = {f"{case.name} {case.tag}": golden.run_case(case) for case in cases}
    assert {name: outcome for name, outcome in outcomes.items() if not outcome.passed} == {}


def test_a_wrong_answer_fails(golden: ModuleType, reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = list(golden.read_cases(reference / "golden" / "mxnet" / "box_iou.npz"))
    monkeypatch.setitem(golden.OPERATORS, "box_iou", lambda lhs, rhs, format: {"out": golden.mxnet.box_iou(lhs, rhs)})
    assert [golden.run_case(case).passed for case in cases] == [True, True, True, False]
