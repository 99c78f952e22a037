"""``python -O`` leaves asserts out: nothing that guards memory or a user's input may be one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import singleshot

PACKAGE = Path(singleshot.__file__).parent

DETECT = """
import numpy as np
import singleshot
from singleshot.core.settings import CoderConfig, PostprocessConfig
from singleshot.kernels import detect, resize

assert False, "asserts are on"
image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
found = singleshot.load("coco").predict(image, score=0.01)
print(len(found), found.boxes_xyxy.shape, round(float(found.scores[0]), 4))
if detect.is_compiled():
    for call in (
        lambda: detect.detect([np.zeros((1, 3, 4)), np.zeros((1, 2, 5))], np.zeros((3, 4)), PostprocessConfig(),
                              CoderConfig(), (9, 9)),
        lambda: resize.normalise_bytes(image, resize.Normalisation(1, (0,) * 3, (1,) * 3, False),
                                       np.zeros((3, 9, 9), np.float32)),
    ):
        try:
            call()
        except ValueError:
            continue
        raise SystemExit("a wrong shape went to C")
"""


@pytest.mark.parametrize("folder", ["kernels", "models/fast_conv"])
def test_what_calls_c_asserts_nothing_of_its_input(folder: str) -> None:
    """An ``isinstance`` that types need is no guard."""
    for path in sorted((PACKAGE / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert):
                assert ast.unparse(node.test).startswith("isinstance("), f"{path.name}:{node.lineno}"


def test_detects_without_asserts() -> None:
    run = [sys.executable, "-O", "-c", DETECT]
    optimised = subprocess.run(run, capture_output=True, text=True, timeout=200, check=False)
    assert optimised.returncode == 0, optimised.stderr
    run = [sys.executable, "-c", DETECT.replace('assert False, "asserts are on"', "")]
    usual = subprocess.run(run, capture_output=True, text=True, timeout=200, check=True)
    assert optimised.stdout == usual.stdout
    assert int(usual.stdout.split()[0]) > 0
